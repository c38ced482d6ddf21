"""The cluster as it is: django-q2's queue, and who works on what is in it."""

from __future__ import annotations

import os
from typing import Any

from django.db import DatabaseError, InterfaceError
from django_q.brokers import get_broker
from django_q.conf import Conf
from django_q.tasks import async_task

from fetcher.dispatch import DispatchError
from fetcher.machine import this_process
from fetcher.slices import RESERVE, SLICE
from fetcher.texts import first_line
from jobs.models import Cluster


class QCluster:
    """Wakes workers by django-q2's tasks; what ``FETCHER_DISPATCHER`` names."""

    @property
    def longest_attempt(self) -> float:
        """Seconds that an attempt may take: what the queue's ``timeout`` leaves."""
        return max(1.0, float(Conf.TIMEOUT or 0) - SLICE - RESERVE)

    def check(self) -> None:
        """Raise DispatchError where the queue cannot be reached."""
        self.is_idle()  # a ping would be logged as well

    def is_idle(self) -> bool:
        """Whether no message waits for a worker. Raises DispatchError."""
        try:
            return not get_broker().queue_size()
        except Exception as exc:  # whatever the broker's own library raises
            raise DispatchError(unreachable(exc)) from exc

    def is_ending(self) -> bool:
        """Whether the cluster that this process is a worker of was told to stop, as its guard, the parent, noted."""
        here = this_process()
        guards = Cluster.objects.filter(hostname=here.hostname, boot_id=here.boot, pid=os.getppid())
        return guards.filter(stopping=True).exists()

    def wake(self, run: int, count: int = 1) -> None:
        """Put ``count`` messages into the queue. Raises DispatchError."""
        try:
            broker = get_broker()
            for _ in range(count):
                async_task("jobs.tasks.work", run, broker=broker, group="work")
        except (DatabaseError, InterfaceError):  # the run's own database: who called knows what to do
            raise
        except Exception as exc:
            raise DispatchError(unreachable(exc)) from exc


def unreachable(exc: BaseException) -> str:
    """Say in one line that the queue cannot be reached, and how to check it."""
    if Conf.ORM:
        return f"the queue, which is in the database {Conf.ORM!r}, cannot be reached: {first_line(exc)}"
    return (
        f"the queue cannot be reached: Redis at {redis_address()}: {first_line(exc)}; is it running? "
        "Check it with redis-cli ping, and REDIS_URL"
    )


def redis_address() -> str:
    """Return where Redis is, without a password."""
    from urllib.parse import urlsplit

    if isinstance(Conf.REDIS, str):
        parts = urlsplit(Conf.REDIS)
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    return f"{Conf.REDIS.get('host', 'localhost')}:{Conf.REDIS.get('port', 6379)}"


def connect_redis(patience: float) -> Any:
    """Return a client of the queue's Redis that gives up when nothing is heard for ``patience`` seconds."""
    import redis

    bounds: dict[str, Any] = {"socket_connect_timeout": patience, "socket_timeout": patience}
    if isinstance(Conf.REDIS, str):
        return redis.from_url(Conf.REDIS, **bounds)
    return redis.Redis(**{**Conf.REDIS, **bounds})
