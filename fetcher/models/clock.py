"""The clock that all processes of a database share.

Leases, due times, and when runs begin and end go by it: a machine whose own clock is off works all the same.
"""

from __future__ import annotations

from datetime import datetime

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models.functions import Now
from django.utils import timezone


def database_now() -> datetime:
    """Return the time by the database's clock; SQLite has the machine's."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
            return moment
    return timezone.now()


def database_time(using: str = DEFAULT_DB_ALIAS) -> datetime | Now:
    """Return the same for use in a query, as an expression where it would take a query of its own."""
    return Now() if connections[using].vendor == "postgresql" else timezone.now()
