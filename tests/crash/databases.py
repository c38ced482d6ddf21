"""Scratch databases: a migrated one as the model, a copy of it for each kill, and how whole a copy is."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

_numbers = itertools.count(1)
_BUSY = 20
"""Seconds to wait for a writer."""


class Rows(Protocol):
    """What both drivers' connections can do."""

    def execute(self, query: Any, /) -> Any:
        """Run a statement."""


class Database(Protocol):
    """One database. Nothing here goes through the code that is on trial."""

    @property
    def url(self) -> str:
        """As DATABASE_URL."""

    def copy(self, folder: Path) -> Database:
        """Return a new database with what this one has. Nobody may be connected to this one."""

    def reading(self) -> Any:
        """Return a context: a connection that sees one moment."""

    def damage(self) -> list[str]:
        """Return what the database's own checks find wrong."""

    def drop(self) -> None:
        """Remove it, whoever is connected."""


class Sqlite:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "db.sqlite3"

    @property
    def url(self) -> str:
        return f"sqlite:///{self._path}"

    def copy(self, folder: Path) -> Sqlite:
        other = Sqlite(folder)
        with closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(other._path)) as target:
            source.backup(target)
        return other

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield connection

    def damage(self) -> list[str]:
        with self.reading() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            return found + [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]

    def drop(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink()


class Postgres:
    """A database on a server; ``server`` is the URL of another database on it, to which one can connect."""

    def __init__(self, server: str, *, template: str = "template0") -> None:
        self._server = server
        self._name = f"trawl_crash_{os.getpid()}_{next(_numbers)}"
        self._administer(f"CREATE DATABASE {self._name} TEMPLATE {template}")

    @property
    def url(self) -> str:
        return re.sub(r"/[^/]*$", f"/{self._name}", self._server)

    def copy(self, folder: Path) -> Postgres:
        return Postgres(self._server, template=self._name)

    def reading(self) -> Any:
        return self._snapshot()

    @contextmanager
    def _snapshot(self) -> Iterator[Rows]:
        with psycopg.connect(self.url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    def damage(self) -> list[str]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            indexes = connection.execute(
                "SELECT indexrelid::regclass::text, indisvalid FROM pg_index JOIN pg_class c ON c.oid = indrelid"
                " WHERE c.relname LIKE 'fetcher_%'"
            ).fetchall()
            found = [f"{name} is not valid" for name, valid in indexes if not valid]
            try:
                connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            except psycopg.Error as exc:
                return [*found, f"indexes cannot be checked: {exc}"]
            for name, _ in indexes:
                try:
                    connection.execute(f"SELECT bt_index_check('{name}', true)")
                except psycopg.Error as exc:
                    found.append(f"{name}: {exc}")
            return found

    def drop(self) -> None:
        self._administer(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement)


def new_database(kind: str, folder: Path, server: str) -> Database:
    """Return an empty database: ``sqlite`` in the folder, or ``postgres`` on the server."""
    return Sqlite(folder) if kind == "sqlite" else Postgres(server)


def remove(folder: Path) -> None:
    """Remove a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
