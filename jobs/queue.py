"""What waits in the queue, read without taking anything out of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from django.db import connections
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import BadSignature, SignedPackage

from jobs.cluster import connect_redis, redis_address, unreachable

PATIENCE = 2.0
"""Seconds that Redis has to accept a connection, and to answer."""


class QueueItem(msgspec.Struct, frozen=True):
    """The queue. ``kind`` is orm, redis or other, ``address`` where it is, without a password.

    ``waiting`` counts messages that nobody took, ``oldest_s`` is how long the oldest of them has waited, in seconds by
    the clock of whoever sent it; null where none waits. ``taken`` counts those that a cluster took and did not finish,
    ``taken_s`` is how long ago it took the first of them; Redis knows neither. ``error`` says why nothing could be
    read, or what is wrong with the messages.
    """

    kind: str
    address: str
    waiting: int | None = None
    taken: int | None = None
    oldest_s: float | None = None
    taken_s: float | None = None
    error: str | None = None


def read_queue(now: datetime | None = None, patience: float = PATIENCE) -> QueueItem:
    """Ask the queue; one that cannot be asked has an ``error``."""
    kind, address, read = _broker()
    try:
        return read(now or timezone.now(), patience)
    except BadSignature:
        error = "its messages were signed with another SECRET_KEY: all machines need the same one"
        return QueueItem(kind, address, error=error)
    except Exception as exc:  # noqa: BLE001  (whatever the broker's own library raises)
        return QueueItem(kind, address, error=unreachable(exc))


def _broker() -> tuple[str, str, Callable[[datetime, float], QueueItem]]:
    if Conf.ORM:
        return "orm", f"database {Conf.ORM} ({connections[Conf.ORM].vendor})", _read_orm
    if Conf.REDIS and not Conf.DJANGO_REDIS:
        return "redis", redis_address(), _read_redis
    return "other", "", _read_other


def _read_orm(now: datetime, patience: float) -> QueueItem:
    kind, address, _ = _broker()
    messages = OrmQ.objects.using(Conf.ORM).filter(key=Conf.CLUSTER_NAME)
    # A message that nobody took is "locked" until it was sent; one that was, until it counts as lost.
    waiting = messages.filter(lock__lte=now)
    oldest = waiting.order_by("lock").first()
    if oldest is not None:
        SignedPackage.loads(oldest.payload)
    taken = messages.filter(lock__gt=now)
    first = taken.order_by("lock").first()
    return QueueItem(
        kind,
        address,
        waiting=waiting.count(),
        taken=taken.count(),
        taken_s=None if first is None else _age(first.lock - timedelta(seconds=Conf.RETRY), now),
        oldest_s=None if oldest is None else _age(oldest.lock, now),
    )


def _read_redis(now: datetime, patience: float) -> QueueItem:
    kind, address, _ = _broker()
    key = f"django_q:{Conf.CLUSTER_NAME}:q"
    with connect_redis(patience) as client:
        pipe = client.pipeline(transaction=False)
        waiting, first = pipe.llen(key).lindex(key, 0).execute()
    oldest = None if first is None else SignedPackage.loads(first.decode())["started"]
    return QueueItem(kind, address, waiting=waiting, oldest_s=None if oldest is None else _age(oldest, now))


def _read_other(now: datetime, patience: float) -> QueueItem:
    broker = get_broker()
    broker.ping()
    return QueueItem("other", type(broker).__name__, waiting=broker.queue_size())


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, round((now - since).total_seconds(), 3))
