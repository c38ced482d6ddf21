"""A database that is ready for use, or one clear line about why it is not. SQLite files of the test's own."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management.base import CommandError
from pytest_django import DjangoDbBlocker

from fetcher.bootstrap import ensure_database
from fetcher.models import Run
from tests.support.databases import using_database
from tests.support.processes import ROOT

READY = """
import django
django.setup()
from fetcher.bootstrap import ensure_database
from fetcher.models import Run
ensure_database()
print(Run.objects.count())
"""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Path:
    """A file that was missing when a command needed it."""
    found = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    with django_db_blocker.unblock():
        assert runs_after_ensuring(found) == 0
    return found


@pytest.fixture
def path(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Path]:
    with django_db_blocker.unblock():
        yield tmp_path / "db.sqlite3"


@pytest.fixture
def unfinished(path: Path, migrated: Path) -> Path:
    """A file whose migrations were broken off."""
    shutil.copy(migrated, path)
    forget_the_fetchers_tables(path)
    return path


def runs_after_ensuring(path: Path) -> int:
    """Return how many runs there are in the file once it can be used."""
    with using_database(f"sqlite:///{path}"):
        ensure_database()
        return Run.objects.count()


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", READY],
        cwd=ROOT,
        env={"DJANGO_SETTINGS_MODULE": "settings.dev", "DATABASE_URL": f"sqlite:///{path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    return out.strip() or err.strip()


def lock(path: Path) -> Path:
    return path.with_name("db.sqlite3.lock")


def migrations(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM django_migrations").fetchone()[0])


def forget_the_fetchers_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'fetcher\\_%' ESCAPE '\\'")
        names = [name for (name,) in tables.fetchall() if name in known_tables(database)]
        for name in names:
            database.execute(f"DROP TABLE {name}")
        database.execute("DELETE FROM django_migrations WHERE app = 'fetcher'")


def known_tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


class TestAMissingFile:
    def test_is_created_and_migrated(self, migrated):
        assert migrations(migrated)
        assert not lock(migrated).exists()

    def test_is_created_once_by_processes_that_start_together(self, path):
        processes = [start(path) for _ in range(3)]
        assert [said(process) for process in processes] == ["0"] * 3

    def test_that_is_empty_counts_as_missing(self, path):
        path.touch()
        assert runs_after_ensuring(path) == 0

    def test_in_a_folder_that_is_missing_is_an_error(self, path):
        with pytest.raises(CommandError, match="there is no folder"):
            runs_after_ensuring(path.parent / "none" / "db.sqlite3")


class TestAFileThatWasNotFinished:
    def test_is_finished_where_the_lock_file_is_still_there(self, unfinished, migrated):
        lock(unfinished).touch()
        assert runs_after_ensuring(unfinished) == 0
        assert migrations(unfinished) == migrations(migrated)
        assert not lock(unfinished).exists()

    def test_is_an_error_otherwise(self, unfinished):
        with pytest.raises(CommandError, match=r"Run: python manage.py migrate$"):
            runs_after_ensuring(unfinished)
