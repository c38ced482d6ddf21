"""Model fields of our own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    _Field = models.Field["datetime | int", datetime]
else:
    _Field = models.Field  # a generic in the stubs only

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class EpochField(_Field):
    """A time as milliseconds since the epoch: 6 bytes on SQLite, where a DateTimeField takes 26.

    Python sees an aware datetime in UTC; a whole number is taken as milliseconds.
    """

    def get_internal_type(self) -> str:
        """Name the column type."""
        return "BigIntegerField"

    def from_db_value(self, value: int | None, expression: Any, connection: Any) -> datetime | None:
        """Return the time of a stored number."""
        return None if value is None else _EPOCH + value * _MILLISECOND

    def to_python(self, value: Any) -> Any:
        """Return the time of a number."""
        return _EPOCH + value * _MILLISECOND if isinstance(value, int) else value

    def get_prep_value(self, value: Any) -> Any:
        """Return the number to store; fractions of a millisecond are cut."""
        return (value - _EPOCH) // _MILLISECOND if isinstance(value, datetime) else value
