"""Inserts without an ORM instance a row: those cost several times the insert itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import connection, models
from django.db.models import QuerySet

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)


def insert_rows(
    model: type[models.Model], names: Sequence[str], rows: Iterable[Sequence[Any]], *, skip_conflicts: bool = False
) -> None:
    """Insert rows given as tuples in the order of the field names.

    Values are what the database driver takes; ``for_database`` prepares those that need it. With ``skip_conflicts`` a
    row that would violate a unique constraint is left out silently.
    """
    rows = list(rows)
    if not rows:
        return
    quote = connection.ops.quote_name
    columns = ", ".join(quote(_field(model, name).get_attname_column()[1] or name) for name in names)
    marks = ", ".join(["%s"] * len(names))
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({marks})"  # noqa: S608  (names are ours)
    if skip_conflicts:
        sql += " ON CONFLICT DO NOTHING"
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


def keep_rows(model: type[models.Model], ids: Iterable[int]) -> set[int]:
    """Return which of these rows exist, and keep them from being deleted until the transaction is over.

    PostgreSQL locks the rows as a foreign key does (FOR KEY SHARE), which holds up nobody but who deletes them; on
    SQLite the transaction has the database for itself anyway.
    """
    return _locked(model, ids, "FOR KEY SHARE")


def lock_rows(model: type[models.Model], ids: Iterable[int]) -> set[int]:
    """Return which of these rows exist, and wait until nobody else keeps them; then they are this transaction's."""
    return _locked(model, ids, "FOR UPDATE")


def _locked(model: type[models.Model], ids: Iterable[int], lock: str) -> set[int]:
    if connection.vendor != "postgresql":
        lock = ""
    table = connection.ops.quote_name(model._meta.db_table)
    found: set[int] = set()
    with connection.cursor() as cursor:
        for batch in in_batches(sorted(set(ids))):
            marks = ", ".join(["%s"] * len(batch))
            # In one order, so that two transactions never wait for each other.
            cursor.execute(f"SELECT id FROM {table} WHERE id IN ({marks}) ORDER BY id {lock}", batch)  # noqa: S608
            found.update(row[0] for row in cursor.fetchall())
    return found


def locked_for_update(rows: QuerySet[M]) -> QuerySet[M]:
    """Have the rows locked that are read, without those that another transaction has locked.

    On SQLite the transaction has the database for itself anyway.
    """
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, of=("self",))
    return rows


def delete_rows(model: type[models.Model], ids: Sequence[int]) -> int:
    """Delete rows by their ids and return how many there were.

    Nothing is cascaded: the ORM would look for rows that refer to them, some of which no index finds.
    """
    table = connection.ops.quote_name(model._meta.db_table)
    deleted = 0
    with connection.cursor() as cursor:
        for batch in in_batches(ids):
            marks = ", ".join(["%s"] * len(batch))
            cursor.execute(f"DELETE FROM {table} WHERE id IN ({marks})", batch)  # noqa: S608
            deleted += cursor.rowcount
    return deleted


def lock_name(name: str) -> None:
    """Wait until no other transaction has this name, and have it until this one is over.

    On SQLite the transaction has the database for itself anyway.
    """
    if connection.vendor == "postgresql":
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


def for_database(model: type[models.Model], name: str, value: Any) -> Any:
    """Prepare a value (a date, JSON) as the ORM would."""
    return _field(model, name).get_db_prep_save(value, connection)


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field


def in_batches(items: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts that fit into one statement's parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
