"""What the cluster does every minute: find what was lost, and remove what is not kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import Count, F, Min
from django.db.models.functions import Coalesce
from django_q.models import Task

from fetcher.dispatch import DispatchError, dispatcher
from fetcher.models import Run
from fetcher.models.clock import database_now
from fetcher.slices import wake_lost
from jobs import firing, timers
from jobs.models import Firing, FiringState, Job
from jobs.running import prune_job

log = logging.getLogger(__name__)

KEPT = timedelta(days=30)
"""How long firings, and our tasks that failed, are kept."""
FIRINGS = 100
"""How many firings of a job are kept, at most."""
PRUNING = 60.0
"""Seconds after which a sweep begins to prune no more: the queue bounds how long a task may take."""
_BATCH = 500
_COUNTED = ("job_id", "count", "oldest")
_TASKS = ("jobs.tasks.work", timers.FIRE, timers.SWEEP)


def sweep_all() -> int:
    """Wake what was lost, prune what it is the turn of, and return how much was woken."""
    now = database_now()
    timers.ensure_sweep()
    found = _wake_runs() + firing.begin_waiting() + timers.mend_alarms(now)
    _prune(now)
    return found


def after_run(run: int) -> None:
    """Begin what waited for the end of a job's run, and remove the job's old runs."""
    job = Job.objects.defer("secrets").filter(pk__in=Run.objects.filter(pk=run).values("job_id")).first()
    if job is not None:
        firing.begin_waiting(job.pk)
        _prune_job(job)


def _wake_runs() -> int:
    try:
        return len(wake_lost(dispatcher()))
    except DispatchError as exc:
        log.warning("no worker was woken: %s", exc)
        return 0


def _prune(now: datetime, clock: Callable[[], float] = time.monotonic) -> None:
    """Prune the jobs whose turn it is: each once an hour, and about as many every minute."""
    end = clock() + PRUNING
    jobs = {job.pk: job for job in Job.objects.defer("secrets").annotate(turn=F("pk") % 60).filter(turn=now.minute)}
    ended = Coalesce("finished_at", "started_at", "created_at")
    runs = Run.objects.filter(job_id__in=jobs).values("job_id").order_by("job_id")
    for job, count, oldest in runs.annotate(count=Count("id"), oldest=Min(ended)).values_list(*_COUNTED):
        if clock() >= end:
            return
        if count > jobs[job].keep_runs or oldest < now - timedelta(days=jobs[job].keep_days):
            _prune_job(jobs[job])
    firings = Firing.objects.filter(job__in=jobs).values("job_id").order_by("job_id")
    counted = firings.annotate(count=Count("id"), oldest=Min("intended_at"))
    for job, count, oldest in counted.values_list(*_COUNTED):
        if count > FIRINGS or oldest < now - KEPT:
            prune_firings(jobs[job], now)
    if now.minute == 0:
        prune_tasks(now)


def prune_firings(job: Job, now: datetime) -> int:
    """Remove a job's old firings, which are known for long enough that no message of them is out any more."""
    firings = Firing.objects.filter(job=job).exclude(state=FiringState.WAITING)
    oldest = firings.order_by("-intended_at").values_list("intended_at", flat=True)[FIRINGS - 1 : FIRINGS].first()
    removed: int = firings.filter(intended_at__lt=max(oldest or now - KEPT, now - KEPT)).delete()[0]
    return removed


def prune_tasks(now: datetime) -> int:
    """Remove our old tasks, batch by batch; those of others are not ours to remove."""
    removed = 0
    old = Task.objects.filter(func__in=_TASKS, stopped__lt=now - KEPT).order_by()
    while batch := list(old.values_list("pk", flat=True)[:_BATCH]):
        removed += Task.objects.filter(pk__in=batch).delete()[0]
    return removed


def _prune_job(job: Job) -> None:
    try:
        prune_job(job)
    except (DatabaseError, OSError) as exc:  # the next sweep tries again
        log.warning("old runs of job %s were not removed: %s", job.name, exc)
