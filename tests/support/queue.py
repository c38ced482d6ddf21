"""django-q2's queue in a test: its scheduler, and its messages heard by the tasks themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler

from fetcher.models import Run, RunState
from jobs import timers


def due_now(*jobs: int) -> None:
    """Have the alarms of these jobs (all) go off at the scheduler's next look, as if it were time."""
    alarms = Schedule.objects.filter(func=timers.FIRE)
    if jobs:
        alarms = alarms.filter(name__in=[timers.name_of(job) for job in jobs])
    alarms.update(next_run=timezone.now() - timedelta(seconds=1))


def messages(func: str) -> list[dict[str, Any]]:
    """Return the messages in the ORM broker's queue for a task, the oldest first."""
    return [row.task for row in OrmQ.objects.order_by("id") if row.task["func"] == func]


def take(func: str) -> Iterator[dict[str, Any]]:
    """Take the messages for a task out of the queue, each for oneself alone."""
    for row in OrmQ.objects.order_by("id"):
        if row.task["func"] == func and OrmQ.objects.filter(pk=row.pk).delete()[0]:
            yield row.task


def hear(func: str = timers.FIRE) -> list[Any]:
    """Take the messages for a task out of the queue, call it with each, and return what it returned."""
    return [import_string(func)(*task["args"], **task["kwargs"]) for task in take(func)]


def fire_due() -> list[Any]:
    """Let the scheduler look once, and hear what it says."""
    scheduler()
    return hear()


def end_runs() -> None:
    """End all runs of the cluster as if they had been fetched."""
    Run.objects.of_cluster().update(state=RunState.COMPLETED, finished_at=timezone.now())
