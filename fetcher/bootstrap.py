"""A database that is ready for use, or one clear line about why it is not."""

from __future__ import annotations

import contextlib
from pathlib import Path

from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from filelock import FileLock, Timeout

from fetcher.database_errors import describe
from fetcher.disk import sqlite_file

_LOCK_TIMEOUT = 120.0


def ensure_database() -> None:
    """Make sure that the database can be used.

    A missing or empty SQLite file is created and migrated, by one process at a time; others wait. The lock file stays
    until that is done, so what a killed process began is finished by the next. Raises CommandError for a database
    that cannot be reached, or that was not migrated.
    """
    try:
        path = sqlite_file()
        if path is not None and (_lock_file(path).exists() or _is_empty(path)):
            _create(path)
        missing = _missing_migrations()
    except DatabaseError as exc:
        raise CommandError(f"{describe(exc)} (check DATABASE_URL)") from None
    if missing:
        word = "migration is" if missing == 1 else "migrations are"
        raise CommandError(f"the database is not up to date: {missing} {word} missing. Run: python manage.py migrate")


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _is_empty(path: Path) -> bool:
    """Whether there is no file, or one without tables."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    return not connection.introspection.table_names()


def _create(path: Path) -> None:
    if not path.parent.is_dir():
        raise CommandError(f"the database cannot be created: there is no folder {path.parent} (check DATABASE_URL)")
    try:
        with FileLock(_lock_file(path), timeout=_LOCK_TIMEOUT):
            if _missing_migrations():  # another process may have done it while this one waited
                call_command("migrate", interactive=False, verbosity=0)
        with contextlib.suppress(OSError):  # some systems keep a file that another process has open
            _lock_file(path).unlink()
    except Timeout:
        raise CommandError(f"another process has been creating {path} for {_LOCK_TIMEOUT:g} s; is it hung?") from None
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise CommandError(f"the database {path} cannot be created: {reason} (check DATABASE_URL)") from None


def _missing_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
