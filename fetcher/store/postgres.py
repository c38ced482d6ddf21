"""Many rows at once on PostgreSQL, in binary: a statement a row costs the client ten times as much, the server thrice.

Only what ``fetcher.store.sql`` needs of psycopg is here. Everything happens on Django's connection and in its
transaction, and raises Django's exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

Column = tuple[str, str]
"""A column's quoted name and its type."""


def cursor() -> CursorWrapper:
    """Return a cursor that sends values beside the statement, as Django's own does only where it is set to."""
    import psycopg

    connection.ensure_connection()
    return CursorWrapper(psycopg.Cursor(connection.connection), connection)


def copy_rows(table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows by COPY, which knows no ON CONFLICT."""
    names = ", ".join(name for name, _ in columns)
    sql = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
    with connection.wrap_database_errors, connection.cursor() as opened, opened.copy(sql) as copy:
        copy.set_types([kind for _, kind in columns])
        write = copy.write_row
        for row in rows:
            write(row)


def insert_missing(table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows but those that would violate a unique constraint."""
    with cursor() as opened:
        opened.execute(_insert_missing(table, columns), _arrays(rows))


def insert_new(table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> dict[Any, int]:
    """Do the same, and return the ids of the new rows by their first column."""
    with cursor() as opened:
        opened.execute(f"{_insert_missing(table, columns)} RETURNING {columns[0][0]}, id", _arrays(rows))
        return dict(opened.fetchall())


def _insert_missing(table: str, columns: Sequence[Column]) -> str:
    names = ", ".join(name for name, _ in columns)
    return f"INSERT INTO {table} ({names}) SELECT * FROM {_unnested(columns)} ON CONFLICT DO NOTHING"


def add_to_rows(table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """Add numbers to columns of rows, which begin with the row's id."""
    (key, _), *counters = columns
    changes = ", ".join(f"{name} = {table}.{name} + more.{name}" for name, _ in counters)
    more = f"{_unnested(columns)} AS more ({', '.join(name for name, _ in columns)})"
    with cursor() as opened:
        opened.execute(f"UPDATE {table} SET {changes} FROM {more} WHERE {table}.{key} = more.{key}", _arrays(rows))


def _unnested(columns: Sequence[Column]) -> str:
    return f"unnest({', '.join(f'%b::{kind}[]' for _, kind in columns)})"


def _arrays(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
