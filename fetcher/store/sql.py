"""Rows by the hundred, without an ORM instance or a compiled query a row: those cost several times the statement."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from django.db import connection, models
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import QuerySet

from fetcher.store import postgres

_TOGETHER = 25
"""Rows that SQLite is given in one statement; with a statement for each an insertion takes a tenth longer."""
_VARIABLES = 999
"""What a statement may have in every build of SQLite."""
_WIDE = (-(2**63), 2**63 - 1)
"""The range of a column of 64 bits."""


class OutOfRange(ValueError):
    """A whole number does not fit its column; the text names both and the range."""


T = TypeVar("T")
M = TypeVar("M", bound=models.Model)


def insert_rows(
    model: type[models.Model], names: Sequence[str], rows: Iterable[Sequence[Any]], *, skip_conflicts: bool = False
) -> None:
    """Insert rows given as tuples in the order of the field names.

    Values are what the database driver takes; ``for_database`` prepares those that need it. With ``skip_conflicts`` a
    row that would violate a unique constraint is left out silently. Raises OutOfRange.
    """
    rows = list(rows)
    if not rows:
        return
    _check_ranges(model, tuple(names), rows)
    table, columns = _table(model), _columns(model, names)
    if connection.vendor == "postgresql":
        insert = postgres.insert_missing if skip_conflicts else postgres.copy_rows
        insert(table, columns, rows)
        return
    begin = f"INSERT INTO {table} ({', '.join(name for name, _ in columns)}) VALUES "
    row, end = f"({_marks(names)})", " ON CONFLICT DO NOTHING" if skip_conflicts else ""
    together = min(_TOGETHER, _VARIABLES // len(names))
    whole = len(rows) // together * together
    values = [tuple(chain.from_iterable(some)) for some in in_batches(rows[:whole], together)]
    with connection.cursor() as cursor:
        cursor.executemany(begin + ", ".join([row] * together) + end, values)
        cursor.executemany(begin + row + end, rows[whole:])


def _check_ranges(model: type[models.Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
    """Raise OutOfRange for a number that its column cannot hold.

    psycopg's binary COPY wraps such a number silently (65736 becomes 200), and SQLite stores it. Larger numbers than
    64 bits are refused by both drivers, so only narrower columns are looked at.
    """
    for place, name, low, high in _narrow_columns(model, names):
        values = [row[place] for row in rows if row[place] is not None]
        if values and not (low <= min(values) and max(values) <= high):
            raise OutOfRange(f"{model.__name__}.{name} must be between {low} and {high}")


@cache
def _narrow_columns(model: type[models.Model], names: tuple[str, ...]) -> list[tuple[int, str, int, int]]:
    """Return place, name and range of each field whose column has fewer than 64 bits, in every database alike."""
    ranges = BaseDatabaseOperations.integer_field_ranges
    found = []
    for place, name in enumerate(names):
        low, high = ranges.get(_field(model, name).get_internal_type(), _WIDE)
        if high < _WIDE[1]:
            found.append((place, name, low, high))
    return found


def insert_new(model: type[models.Model], names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[Any, int]:
    """Insert rows that a query of this transaction did not find, and return their ids by the values of the first field.

    That field is unique. On PostgreSQL another transaction may have inserted some meanwhile: those are left out, and
    have no id here. On SQLite this transaction must be writing already, so that nobody else can.
    """
    if not rows:
        return {}
    if connection.vendor == "postgresql":
        return postgres.insert_new(_table(model), _columns(model, names), rows)
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [model._meta.db_table])
        last = next(iter(cursor.fetchone() or ()), 0)
    insert_rows(model, ("id", *names), [(pk, *row) for pk, row in enumerate(rows, last + 1)])
    return {row[0]: pk for pk, row in enumerate(rows, last + 1)}


def add_to_rows(model: type[models.Model], names: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
    """Add numbers to these fields; a row has the id first. Lock the rows before, in the order of their ids."""
    if not rows:
        return
    table, columns = _table(model), _columns(model, ("id", *names))
    if connection.vendor == "postgresql":
        postgres.add_to_rows(table, columns, rows)
        return
    changes = ", ".join(f"{name} = {name} + %s" for name, _ in columns[1:])
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {table} SET {changes} WHERE id = %s", [(*row[1:], row[0]) for row in rows])


def rows_among(sql: str, keys: Iterable[Any], *more: Any, lock: str = "") -> list[Any]:
    """Return the rows of a query in which ``{among}`` stands for "is one of these keys".

    ``more`` are parameters after it. ``lock`` is how PostgreSQL holds the rows until the transaction is over; on SQLite
    the transaction has the database for itself anyway.
    """
    keys = list(keys)
    if connection.vendor == "postgresql":
        if not keys:
            return []
        with postgres.cursor() as cursor:
            cursor.execute(f"{sql.replace('{among}', '= ANY(%b)')} {lock}", [keys, *more])
            return list(cursor.fetchall())
    found: list[Any] = []
    with connection.cursor() as cursor:
        for batch in in_batches(keys):
            cursor.execute(sql.replace("{among}", f"IN ({_marks(batch)})"), [*batch, *more])
            found += cursor.fetchall()
    return found


def keep_rows(model: type[models.Model], ids: Iterable[int]) -> set[int]:
    """Return which of these rows exist, and keep them from being deleted until the transaction is over.

    PostgreSQL locks the rows as a foreign key does (FOR KEY SHARE), which holds up nobody but who deletes them.
    """
    return _locked(model, ids, "FOR KEY SHARE")


def lock_rows(model: type[models.Model], ids: Iterable[int]) -> set[int]:
    """Return which of these rows exist, and wait until nobody else keeps them; then they are this transaction's."""
    return _locked(model, ids, "FOR UPDATE")


def _locked(model: type[models.Model], ids: Iterable[int], lock: str) -> set[int]:
    # In one order, so that two transactions never wait for each other.
    sql = f"SELECT id FROM {_table(model)} WHERE id {{among}} ORDER BY id"
    return {row[0] for row in rows_among(sql, sorted(set(ids)), lock=lock)}


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
    deleted = 0
    with connection.cursor() as cursor:
        for batch in in_batches(ids):
            cursor.execute(f"DELETE FROM {_table(model)} WHERE id IN ({_marks(batch)})", batch)
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


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _columns(model: type[models.Model], names: Sequence[str]) -> list[postgres.Column]:
    """Return each field's column: its quoted name, and its type without a length."""
    found = []
    for name in names:
        field = _field(model, name)
        kind = (field.db_type(connection) or "").partition("(")[0]
        found.append((connection.ops.quote_name(field.get_attname_column()[1] or name), kind))
    return found


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field


def in_batches(items: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts that fit into one statement's parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
