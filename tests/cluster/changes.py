"""What is different in a process with ``tests.cluster.settings``. The environment says it:

``TRAWL_CLUSTER_NAME=north``
    The cluster takes itself for a machine of its own, so that others know of its end by its lease only, as they would
    across a network. Its requests carry its name and the number of the process as their user agent, which the
    origin's log tells.
``TRAWL_CLUSTER_HURRY=10``
    Every wait of the cluster's is so many times shorter: slices, leases, and when who looks. Without it they are what
    they are.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.apps import AppConfig

from tests.crash.points import find

NAME, HURRY = "TRAWL_CLUSTER_NAME", "TRAWL_CLUSTER_HURRY"
AGENT = "cluster"
SHORTENED = (
    "fetcher.slices:SHORTEST",
    "fetcher.slices:IDLE",
    "fetcher.slices:LOOK",
    "fetcher.store.leases:LEASE",
    "fetcher.store.leases:RENEWAL",
    "fetcher.store.leases:OBSERVED",
    "fetcher.store.cluster:UNHEARD",
    "fetcher.queueing:_AGAIN",
    "fetcher.writer:LONGEST_PAUSE",
)
"""Module constants, in seconds or timedeltas. The slice itself and django-q2's scheduler are shortened beside them."""
SCHEDULER = 30.0
"""Seconds between two looks of django-q2's scheduler, which it has in its code."""
SWEEP = 60.0

log = logging.getLogger(__name__)


class Changes(AppConfig):
    """Makes the changes as soon as the models are there."""

    name = "tests.cluster"
    label = "cluster_trial"
    path = str(Path(__file__).parent)

    def ready(self) -> None:
        """Change what the environment asks for."""
        if name := os.environ.get(NAME):
            _be_a_machine(name)
            _sign_requests(name)
        if (hurry := float(os.environ.get(HURRY) or 1)) != 1:
            shorten(hurry)


def _be_a_machine(name: str) -> None:
    owner, attribute = find("fetcher.machine:_machine")
    setattr(owner, attribute, lambda: (f"machine-{name}", f"boot-{name}"))


def _sign_requests(name: str) -> None:
    """Set the user agent: of all that is sent it alone plays no part in what a request means."""
    owner, attribute = find("fetcher.store.runs:load_config")
    original = getattr(owner, attribute)

    @functools.wraps(original)
    def load(run: Any) -> Any:
        return dataclasses.replace(original(run), user_agent=f"{AGENT}/{name}/{os.getpid()}")

    setattr(owner, attribute, load)


def shorten(times: float) -> None:
    """Make every wait so many times shorter."""
    for name in SHORTENED:
        owner, attribute = find(name)
        setattr(owner, attribute, getattr(owner, attribute) / times)
    from fetcher.slices import work_slice

    assert work_slice.__kwdefaults__ is not None
    work_slice.__kwdefaults__["seconds"] /= times
    _look_often(SCHEDULER / times, timedelta(seconds=SWEEP - SWEEP / times))


def _look_often(every: float, ahead: timedelta) -> None:
    """Have django-q2's sentinel call its scheduler more often, and the sweep be due earlier by ``ahead``.

    The sentinel saves its state in every round of its loop, twice a second.
    """
    from django.utils import timezone
    from django_q import cluster
    from django_q.conf import Conf
    from django_q.models import Schedule
    from django_q.utils import close_old_django_connections

    original = cluster.Stat.save
    last = time.monotonic()

    def save(self: Any) -> None:
        nonlocal last
        original(self)
        if self.status in (Conf.STOPPING, Conf.STOPPED) or time.monotonic() - last < every:
            return
        last = time.monotonic()
        try:
            close_old_django_connections()
            due = Schedule.objects.filter(func="jobs.tasks.sweep", next_run__lt=timezone.now() + ahead)
            due.update(next_run=timezone.now() - timedelta(milliseconds=1))
        except Exception:
            log.exception("the sweep was not set to an earlier time")
        cluster.scheduler(broker=self.broker)  # as the guard does it: to get another may fail

    cluster.Stat.save = save
