"""What becomes of a job that is due: decided once for each time that was meant.

The decision and the run are saved in one transaction with the Firing, whose time is unique for a job. So a message that
comes twice, two schedulers, or a restart in between begin one run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, InterfaceError, transaction

from fetcher.database_errors import describe, passes
from fetcher.disk import DiskNearlyFull
from fetcher.dispatch import DispatchError, dispatcher
from fetcher.engine.config import ConfigError, FetchConfig, check_environment
from fetcher.listener import Listener
from fetcher.models import Run
from fetcher.models.clock import database_now
from fetcher.options import RunOptions
from fetcher.queueing import queue_prepared
from fetcher.secrets import UnsealError
from fetcher.store.runs import load_config, load_options
from fetcher.texts import first_line
from jobs import store, timers
from jobs.models import Firing, FiringState, Job, Missed, Overlap
from jobs.schedules import Schedule, ScheduleError, is_due, next_times

log = logging.getLogger(__name__)

LATE = timedelta(minutes=5)
"""A firing that comes later was missed: nobody was there. The scheduler itself looks every half minute."""
EARLY = timers.JUST_NOW
"""By which the clock of the machine that set off the alarm may be ahead."""


class FiredBefore(Exception):
    """Somebody else was faster with the same firing."""


def is_missed(schedule: Schedule, intended: datetime, now: datetime, jitter: timedelta = timedelta()) -> bool:
    """Whether a firing comes too late for the time that is meant, and for those after it that have come as well.

    Up to ``jitter`` it is late on purpose.
    """
    late = LATE + jitter
    if now - intended <= late:
        return False
    return not any(time <= now for time in next_times(schedule, now - late, 1))


def fire_job(job: int, intended: str, now: datetime | None = None) -> str:
    """Do what a job's policies say for the time that is meant, set the next alarm, and return what became of it.

    Where the database went away in between nothing is decided, and the sweep has the same alarm go off again.
    """
    moment, now = datetime.fromisoformat(intended), now or database_now()
    row = Job.objects.filter(pk=job).first()
    if row is None:
        timers.remove_alarm(job)
        return "no such job"
    done = _fire(row, moment, now)
    timers.heard(row, moment, now)
    return done


def _fire(job: Job, moment: datetime, now: datetime) -> str:
    if Firing.objects.filter(job=job, intended_at=moment).exclude(state=FiringState.WAITING).exists():
        return "fired before"
    if not job.enabled:
        return "paused"
    try:
        if not is_due(job.schedule, moment) and not timers.is_set_for(job.pk, moment):
            return "not due any more"  # the schedule was changed since
        if moment - now > EARLY:  # the clock was put back since
            return "not due yet"
        jitter = timedelta(seconds=job.start_jitter)
        if job.missed == Missed.NONE and is_missed(job.schedule, moment, now, jitter):
            return _end(job, moment, FiringState.MISSED, f"nobody was there until {now:%Y-%m-%d %H:%M:%S} UTC")
    except ScheduleError as exc:
        return _end(job, moment, FiringState.FAILED, f"{exc.field}: {exc}")
    return _attempt(job, moment)


def _attempt(job: Job, moment: datetime) -> str:
    """Begin a run, or note why there is none. Raises DatabaseError, InterfaceError for what passes by itself."""
    try:
        run = begin(job, moment)
    except store.JobBusy as exc:
        state = FiringState.SKIPPED if job.overlap == Overlap.SKIP else FiringState.WAITING
        return _end(job, moment, state, str(exc))
    except store.NoSuchJob:
        return "no such job"
    except DispatchError as exc:
        return _end(job, moment, FiringState.WAITING, str(exc))
    except ConfigError as exc:
        return _end(job, moment, FiringState.FAILED, f"{exc.name}: {exc}")
    except (UnsealError, DiskNearlyFull) as exc:
        return _end(job, moment, FiringState.FAILED, str(exc))
    except (DatabaseError, InterfaceError) as exc:
        if passes(exc):
            raise
        return _end(job, moment, FiringState.FAILED, describe(exc))
    except Exception as exc:  # a mistake of ours: told where people look, and not made again every minute
        log.exception("job %s: nothing was begun", job.name)
        return _end(job, moment, FiringState.FAILED, f"{type(exc).__name__}: {first_line(exc)}")
    return "fired before" if run is None else f"run {run}"


def begin(job: Job, moment: datetime) -> int | None:
    """Begin a run of a job for the time that is meant; None where one was begun before.

    Raises as ``run_now`` does.
    """

    def create(config: FetchConfig, options: RunOptions) -> int:
        run = store.begin_run(job.name, config, options)
        if not _note(job, moment, FiringState.RAN, run=run):
            raise FiredBefore
        return run

    try:
        return _queue(job, create)
    except FiredBefore:
        return None


def run_now(job: Job) -> int:
    """Begin a run of a job on the cluster, whenever it is due, and return its number.

    Raises JobBusy, NoSuchJob, DispatchError, DiskNearlyFull, DatabaseError; ConfigError, UnsealError for options that
    cannot be used here.
    """
    return _queue(job, partial(store.begin_run, job.name))


def _queue(job: Job, create: Callable[[FetchConfig, RunOptions], int]) -> int:
    config, options = load_config(job), load_options(job)
    check_environment(config.headers)
    listener = Listener()
    asyncio.run(
        queue_prepared(lambda: create(config, options), config, options, dispatcher=dispatcher(), listener=listener)
    )
    return listener.progress.run


def begin_waiting(job: int | None = None) -> int:
    """Begin the runs that wait: for the end of another one of their job, or for the queue; returns how many.

    Of one ``job`` only, where it is given.
    """
    waiting = Firing.objects.filter(state=FiringState.WAITING).order_by("intended_at")
    if job is None:
        busy = Run.objects.alive().filter(job_id__isnull=False).values("job_id")
        waiting = waiting.exclude(job_id__in=busy)
    else:
        waiting = waiting.filter(job_id=job)
    firings = list(waiting.select_related("job"))
    if not firings:
        return 0
    try:
        dispatcher().check()
    except DispatchError as exc:
        log.warning("jobs that wait were not begun: %s", exc)
        return 0
    return sum(_begin_waiting(firing) for firing in firings)


def _begin_waiting(firing: Firing) -> bool:
    if not firing.job.enabled:
        _note(firing.job, firing.intended_at, FiringState.SKIPPED, reason="the job was paused while this one waited")
        return False
    return _attempt(firing.job, firing.intended_at).startswith("run ")


def _end(job: Job, moment: datetime, state: FiringState, reason: str) -> str:
    return state.value if _note(job, moment, state, reason=reason) else "fired before"


def _note(job: Job, moment: datetime, state: FiringState, *, run: int | None = None, reason: str = "") -> bool:
    """Save what became of a firing; False where that was decided before. One that waits may be decided once more.

    Only the newest one of a job waits, and none for which a later one ran: what is due twice is fetched once.
    """
    values = {"state": state, "run": run, "reason": reason, "at": database_now()}
    waiting = Firing.objects.filter(job=job, state=FiringState.WAITING)
    with transaction.atomic():
        noted = bool(waiting.filter(intended_at=moment).update(**values))
        if not noted:
            _, noted = Firing.objects.get_or_create(job=job, intended_at=moment, defaults=values)
        if noted and state in (FiringState.WAITING, FiringState.RAN):
            waits = "waits" if state == FiringState.WAITING else "was begun"
            waiting.filter(intended_at__lt=moment).update(state=FiringState.SKIPPED, reason=f"a later one {waits}")
    return noted
