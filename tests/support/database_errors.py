"""Errors as databases raise them."""

from __future__ import annotations

import sqlite3

from django.db import OperationalError


def busy() -> OperationalError:
    """Return the error of a statement that may be repeated."""
    error, cause = OperationalError("database is locked"), sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.__cause__ = cause
    return error
