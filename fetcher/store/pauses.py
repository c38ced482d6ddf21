"""Pauses of hosts that every process of every run keeps: a Retry-After that one of them was given."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Q

from fetcher.models import HostPause
from fetcher.models.clock import database_now
from fetcher.store.sql import delete_rows, for_database, locked_for_update

MOST = 10_000
"""Pauses that a process keeps of others: those that last longest."""
_AHEAD = timedelta(seconds=5)
"""A pause that was told of later than this from now was told of before the clock was set back."""


class Pause(NamedTuple):
    """The seconds that are left of a pause, and when it ends by the database's clock, which tells two of them apart."""

    seconds: float
    until: datetime


def save(told: Mapping[str, float]) -> None:
    """Save pauses, given by host as the end in monotonic seconds. One that ends later already is left as it is.

    What is over is removed.
    """
    now, clock = database_now(), time.monotonic()
    rows = [
        (host, _prepared("told_at", now), _prepared("until", now + timedelta(seconds=until - clock)))
        for host, until in sorted(told.items())  # in one order, so that two processes never wait for each other
        if until > clock
    ]
    if rows:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO fetcher_hostpause (host, told_at, until) VALUES (%s, %s, %s) "
                "ON CONFLICT (host) DO UPDATE SET told_at = excluded.told_at, until = excluded.until "
                "WHERE fetcher_hostpause.until < excluded.until OR fetcher_hostpause.told_at > %s",
                [(*row, _prepared("told_at", now + _AHEAD)) for row in rows],
            )
    with transaction.atomic():
        over = HostPause.objects.filter(Q(until__lt=now) | Q(told_at__gt=now + _AHEAD)).order_by("id")
        delete_rows(HostPause, list(locked_for_update(over).values_list("id", flat=True)[:MOST]))


def in_force(longest: float, hosts: Sequence[str] | None = None) -> dict[str, Pause]:
    """Return the pauses that somebody keeps who waits for ``longest`` seconds at most, by host.

    That bound counts from when a pause was told of, however late one hears of it. ``hosts``: of these only.
    """
    now = database_now()
    rows = HostPause.objects.filter(
        until__gt=now, told_at__gt=now - timedelta(seconds=min(longest, 1e9)), told_at__lte=now + _AHEAD
    )
    if hosts is not None:
        rows = rows.filter(host__in=hosts)
    found = {}
    for host, told_at, until in rows.order_by("-until").values_list("host", "told_at", "until")[:MOST]:
        seconds = min((until - now).total_seconds(), (told_at - now).total_seconds() + longest)
        found[host] = Pause(seconds, until)
    return found


def _prepared(name: str, moment: datetime) -> Any:
    return for_database(HostPause, name, moment)
