"""Inserts without an ORM instance a row: those cost several times the insert itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import connection, models

T = TypeVar("T")


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
