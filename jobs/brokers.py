"""django-q2's brokers, and what they add: a running cluster can be seen by every process that has the database.

A cluster's guard tells its broker twice a second how the cluster is. django-q2 keeps that in Redis, or in Django's
cache, which processes do not share as it is set up by default. Here it is kept as a row as well, every few seconds,
with either broker in the same way. ``Q_CLUSTER["broker_class"]`` names one of these.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.brokers.redis_broker import Redis
from django_q.conf import Conf
from django_q.signing import BadSignature, SignedPackage

from fetcher.machine import this_process
from fetcher.models.clock import database_now, database_time
from fetcher.texts import first_line
from jobs.cluster import connect_redis
from jobs.models import Cluster

log = logging.getLogger(__name__)

SILENCE = 10.0
"""Seconds after which a Redis that does not answer is given up."""
BEAT = 10.0
"""Seconds between two looks at a cluster."""
FORGOTTEN = timedelta(days=1)
"""How long a cluster is remembered that ended without saying so."""


class Seen:
    """A broker whose cluster has a row."""

    _due = 0.0
    _noted: tuple[Any, ...] = ()

    def set_stat(self, key: str, value: str, timeout: int) -> Any:
        """Take note of how the cluster is; called by its guard."""
        try:
            self._see(SignedPackage.loads(value))
        except BadSignature:
            log.warning("what the cluster says of itself cannot be read")
        return super().set_stat(key, value, timeout)  # type: ignore[misc]

    def _see(self, stat: Any) -> None:
        # Idle or working is not among it: it changes with every message.
        news = (stat.status == Conf.STOPPING, stat.status == Conf.STOPPED, len(stat.workers))
        if time.monotonic() < self._due and news == self._noted:
            return
        # Noted first: where the database is away, the guard waits for it once in a while, not all the time.
        self._due, self._noted = time.monotonic() + BEAT, news
        try:
            if not connection.in_atomic_block:
                close_old_connections()
            if stat.status == Conf.STOPPED:
                Cluster.objects.filter(token=stat.cluster_id).delete()
            else:
                _save(stat, stopping=stat.status == Conf.STOPPING)
        except (DatabaseError, InterfaceError) as exc:
            log.warning("that this cluster works cannot be noted: %s", first_line(exc))


class OrmBroker(Seen, ORM):  # type: ignore[misc]
    """The queue in the database, whose clock says which messages are due.

    django-q2 goes by each machine's own: one that is an hour behind would see no message for an hour, and one that is
    ahead would take those that others are working on.
    """

    def timeout(self, task: Any) -> Any:
        """Return when a message that is taken now counts as lost."""
        return _queue_now() + timedelta(seconds=Conf.RETRY)

    def queue_size(self) -> int:
        """Count the messages that nobody has taken."""
        count: int = self._messages().filter(lock__lte=_queue_now()).count()
        return count

    def lock_size(self) -> int:
        """Count the messages that are being worked on."""
        count: int = self._messages().filter(lock__gt=_queue_now()).count()
        return count

    def enqueue(self, task: str) -> int:
        """Add a message and return its id."""
        key = self.list_key or Conf.CLUSTER_NAME
        pk: int = self.get_connection().create(key=key, payload=task, lock=_queue_now()).pk
        return pk

    def dequeue(self) -> list[tuple[int, str]] | None:
        """Take some messages; None, after a moment, where there are none."""
        due = list(self._messages().filter(lock__lt=_queue_now())[: Conf.BULK])
        if not due:
            time.sleep(Conf.POLL)
            return None
        # The condition once more: another cluster may have taken it meanwhile.
        ours = self.get_connection()
        return [
            (message.pk, message.payload)
            for message in due
            if ours.filter(pk=message.pk, lock=message.lock).update(lock=self.timeout(message))
        ]

    def _messages(self) -> Any:
        return self.get_connection().filter(key=self.list_key)


class RedisBroker(Seen, Redis):  # type: ignore[misc]
    """The queue in Redis; one that says nothing any more is given up."""

    @staticmethod
    def get_connection(list_key: str | None = None) -> Any:
        """Return a client. Waiting for a message asks for one each second, so silence is never that of a queue."""
        return Redis.get_connection(list_key) if Conf.DJANGO_REDIS else connect_redis(SILENCE)


def _queue_now() -> Any:
    """Return the time by the clock of the queue's database, for use in a query."""
    return database_time(Conf.ORM)


def clock_skew() -> float:
    """Return by how many seconds this machine's clock is ahead of the database's, below nought where it is behind."""
    before = timezone.now()
    now = database_now()
    # The answer was given somewhere in between: what that leaves unknown is no skew.
    after = timezone.now()
    if before <= now <= after:
        return 0.0
    return (before - now if now < before else after - now).total_seconds()


def _save(stat: Any, *, stopping: bool) -> None:
    now, process = database_now(), this_process()
    changes = {
        "workers": len(stat.workers),
        "replaced": stat.reincarnations,
        "stopping": stopping,
        "skew": clock_skew(),
        "seen_at": now,
    }
    _, new = Cluster.objects.update_or_create(
        token=stat.cluster_id,
        defaults=changes,
        create_defaults={
            **changes,
            "hostname": process.hostname,
            "boot_id": process.boot,
            "pid": process.pid,
            "process_started": process.started,
            "main_pid": stat.pid,
            "started_at": now,
        },
    )
    if new:
        Cluster.objects.filter(seen_at__lt=now - FORGOTTEN).delete()
