"""Which errors of a database pass by themselves, and how they are told. Each is the driver's own."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from psycopg import errors

from fetcher.database_errors import describe, passes
from fetcher.disk import DiskNearlyFull
from fetcher.engine.errors import SpillFailed
from fetcher.store.record import LaneLost


def wrapped(kind: type[Exception], cause: BaseException) -> Exception:
    """Return the error that Django makes of a driver's."""
    error = kind(*cause.args)
    error.__cause__ = cause
    return error


def sqlite_error(folder: Path, provoke: Callable[[sqlite3.Connection], object]) -> sqlite3.Error:
    """Return what SQLite raises for a call on a file that has one table and is locked by nobody."""
    path = folder / "db.sqlite3"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text)")
    made.close()
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        with pytest.raises(sqlite3.Error) as raised:
            provoke(connection)
    finally:
        connection.close()
    return raised.value


def lock_it(connection: sqlite3.Connection) -> None:
    other = sqlite3.connect(connection.execute("PRAGMA database_list").fetchone()[2], isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        connection.execute("BEGIN IMMEDIATE")
    finally:
        other.close()


def fill_it(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 3")
    connection.execute("INSERT INTO t (text) VALUES (?)", ("x" * 100_000,))


def write_to_what_is_read_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = 1")
    connection.execute("INSERT INTO t DEFAULT VALUES")


def miss_a_table(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT * FROM none")


class TestSqlite:
    @pytest.mark.parametrize(
        ("provoke", "passing", "told"),
        [
            (lock_it, True, "the database cannot be used: database is locked"),
            (fill_it, False, r"the disk of .* is full: database or disk is full; make room there"),
            (write_to_what_is_read_only, False, "the database is read-only: attempt to write a readonly database"),
            (miss_a_table, False, "the database cannot be used: no such table: none"),
        ],
    )
    def test_errors(self, tmp_path, provoke, passing, told):
        error = wrapped(OperationalError, sqlite_error(tmp_path, provoke))
        assert passes(error) is passing
        assert re.match(told, describe(error))


class TestPostgres:
    @pytest.mark.parametrize(
        ("kind", "state", "passing"),
        [
            (OperationalError, "57P01", True),  # admin shutdown: also pg_terminate_backend
            (OperationalError, "57P02", True),
            (OperationalError, "57P03", True),  # starting up
            (OperationalError, "08006", True),
            (OperationalError, "53300", True),  # too many connections
            (OperationalError, "40P01", True),
            (OperationalError, "40001", True),
            (OperationalError, "55P03", True),
            (OperationalError, "57014", False),  # canceled on request, or by a statement timeout
            (OperationalError, "53100", False),
            (DatabaseError, "25006", False),
            (IntegrityError, "23505", False),
            (ProgrammingError, "42P01", False),
        ],
    )
    def test_states(self, kind, state, passing):
        assert passes(wrapped(kind, errors.lookup(state)("text"))) is passing

    def test_a_connection_that_cannot_be_made_passes(self):
        with pytest.raises(psycopg.OperationalError) as raised:
            psycopg.connect("postgres://postgres@127.0.0.1:1/none", connect_timeout=2)
        error = wrapped(OperationalError, raised.value)
        assert passes(error)
        assert "\n" not in describe(error)

    @pytest.mark.parametrize(("text", "passing"), [("the connection is closed", True), ("wrong parameter", False)])
    def test_what_is_closed_passes(self, text, passing):
        assert passes(wrapped(InterfaceError, psycopg.InterfaceError(text))) is passing

    def test_a_full_disk_is_the_servers(self):
        error = wrapped(OperationalError, errors.DiskFull("could not extend file"))
        assert describe(error) == "the disk of the database's server is full: could not extend file"

    def test_a_read_only_server_is_told(self):
        error = wrapped(DatabaseError, errors.ReadOnlySqlTransaction("cannot execute INSERT"))
        assert describe(error) == "the database is read-only: cannot execute INSERT"


class TestOthers:
    @pytest.mark.parametrize(
        "error",
        [OperationalError("no cause"), LaneLost([1]), OSError(errno.ENOSPC, "No space"), KeyboardInterrupt()],
        ids=["no cause", "lane lost", "a file", "an interrupt"],
    )
    def test_do_not_pass(self, error):
        assert not passes(error)

    def test_a_full_disk_of_bodies_names_their_folder(self, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path
        told = describe(OSError(errno.ENOSPC, "No space left on device"))
        assert told == f"the disk of {tmp_path} is full: [Errno 28] No space left on device; make room there"

    def test_a_body_that_could_not_be_spilled_says_it_itself(self, tmp_path):
        error = SpillFailed(str(tmp_path), OSError(errno.ENOSPC, "No space left on device"))
        assert describe(error) == str(error)
        assert str(tmp_path) in str(error)
        assert not passes(error)

    def test_what_is_nearly_full_says_it_itself(self, tmp_path):
        error = DiskNearlyFull(tmp_path, 60 * 2**20, 64 * 2**20)
        assert describe(error) == str(error)
