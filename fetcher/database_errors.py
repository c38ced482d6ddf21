"""What a database's errors mean: which of them pass by themselves, and how they are told in one line.

======================================  =======  ================================================================
error                                   passes   told by
======================================  =======  ================================================================
locked by another process               yes      SQLite's ``SQLITE_BUSY``, ``SQLITE_LOCKED``, ``SQLITE_PROTOCOL``
connection lost, refused, server ends   yes      psycopg's OperationalError without a state; states 08…, 57P…
or starts, too many connections                  and 53300; an InterfaceError over what is closed
deadlock, serialization, lock timeout   yes      states 40001, 40P01, 55P03, 25P03
disk full                               no       ``SQLITE_FULL``; 53100
read-only                               no       ``SQLITE_READONLY``; 25006
a value, a row or a statement           no       all but OperationalError and InterfaceError; states 54…
that the database refuses
anything else                           no       a mistake, ours or the operator's
======================================  =======  ================================================================

Only a value that the database refuses can be an outcome's or a line's fault. All others are told to the operator and
charged to no target (``is_outage``).
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError

from fetcher import disk
from fetcher.engine.errors import SpillFailed
from fetcher.texts import first_line

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_PASSING_STATES = frozenset({"53300", "40001", "40P01", "55P03", "25P03"})
_PASSING_CLASSES = ("08", "57P")
_LIMIT_CLASS = "54"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_SPARE = 2**20
"""Bytes; with less of them free an input/output error of SQLite is one of room."""


def passes(error: BaseException) -> bool:
    """Whether the same call may succeed a little later on a new connection."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    code = _sqlite_code(error)
    if code is not None:
        return code in _BUSY
    cause: Any = error.__cause__
    if not hasattr(cause, "sqlstate"):  # neither SQLite's nor psycopg's
        return False
    state = cause.sqlstate
    if state is None:  # libpq's own: there is no connection that could have told one
        lost = isinstance(error, InterfaceError) and "closed" in str(error)
        return lost or isinstance(error, OperationalError)
    return state in _PASSING_STATES or state.startswith(_PASSING_CLASSES)


def is_outage(error: BaseException) -> bool:
    """Whether an error is the database's, the disk's or the file storage's, whatever was to be saved.

    False for what a single outcome or line may cause: a value that cannot be encoded or stored, a row that is too large
    (PostgreSQL's class 54, program limit exceeded), a lack of memory.
    """
    if isinstance(error, OperationalError):
        state = getattr(error.__cause__, "sqlstate", None)
        return state is None or not state.startswith(_LIMIT_CLASS)
    return isinstance(error, InterfaceError | OSError) or passes(error)


def describe(error: BaseException) -> str:
    """Return one line for an operator about an error of the database or of the file storage."""
    line = first_line(error)
    if isinstance(error, disk.DiskNearlyFull | SpillFailed):
        return line
    if isinstance(error, OSError):
        if error.errno not in _NO_ROOM:
            return line
        return f"the disk of {disk.body_folder() or 'the large bodies'} is full: {line}; make room there"
    code, state = _sqlite_code(error), getattr(error.__cause__, "sqlstate", None)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room_for_sqlite()):
        return f"the disk of {disk.database_folder() or 'the database'} is full: {line}; make room there"
    if state == "53100":
        return f"the disk of the database's server is full: {line}"
    if code == sqlite3.SQLITE_READONLY:
        return f"the database is read-only: {line}; its file and the folder must be writable"
    if state == "25006":
        return f"the database is read-only: {line}"
    return f"the database cannot be used: {line}"


def _sqlite_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code, None for other databases."""
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _no_room_for_sqlite() -> bool:
    folder = disk.database_folder()
    return folder is not None and disk.free_bytes(folder) < _SPARE
