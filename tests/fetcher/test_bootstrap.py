"""A database that is ready for use, or one clear line about why it is not. SQLite files of the test's own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import ROOT

READY = """
import django
django.setup()
from django.core.management.base import CommandError
from fetcher.bootstrap import ensure_database
from fetcher.models import Run
try:
    ensure_database()
except CommandError as exc:
    raise SystemExit(str(exc))
print(Run.objects.count())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite3"


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
    def test_is_created_and_migrated(self, path):
        assert said(start(path)) == "0"
        assert not lock(path).exists()

    def test_is_created_once_by_processes_that_start_together(self, path):
        processes = [start(path) for _ in range(3)]
        assert [said(process) for process in processes] == ["0"] * 3

    def test_that_is_empty_counts_as_missing(self, path):
        path.touch()
        assert said(start(path)) == "0"

    def test_in_a_folder_that_is_missing_is_an_error(self, path):
        assert "there is no folder" in said(start(path.parent / "none" / "db.sqlite3"))


class TestAFileThatWasNotFinished:
    def test_is_finished_where_the_lock_file_is_still_there(self, path):
        said(start(path))
        whole = migrations(path)
        forget_the_fetchers_tables(path)
        lock(path).touch()
        assert said(start(path)) == "0"
        assert migrations(path) == whole
        assert not lock(path).exists()

    def test_is_an_error_otherwise(self, path):
        said(start(path))
        forget_the_fetchers_tables(path)
        assert said(start(path)).endswith("Run: python manage.py migrate")
