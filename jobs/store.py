"""Jobs are saved, changed and removed here; what cannot be used is refused before anything is written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from fetcher.engine.config import FetchConfig
from fetcher.models import Run
from fetcher.options import RunOptions
from fetcher.store.prepared import create_prepared
from fetcher.store.runs import dump_options, dump_secrets
from jobs import lists, timers
from jobs.models import Job, TargetList
from jobs.schedules import Schedule, ScheduleError, next_times

KEEP_RUNS = 50
KEEP_AT_LEAST = timedelta(days=3)
_A_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
"""Where the times of a schedule are counted from: the result must not depend on the day."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


class JobError(Exception):
    """What was asked of a job cannot be done; the text says why."""


class NoSuchJob(JobError):
    """There is no job of this name."""


class JobBusy(JobError):
    """A run of the job is in progress; ``run`` is its number."""

    def __init__(self, job: str, run: int) -> None:
        super().__init__(f"run {run} of job {job} is in progress")
        self.run = run


@dataclass(frozen=True, slots=True)
class Wanted:
    """What can be changed of a job beside its list; None leaves as it is. ``policies`` are columns, by name."""

    config: FetchConfig | None = None
    options: RunOptions | None = None
    schedule: Schedule | None = None
    policies: Mapping[str, Any] | None = None


def check_name(name: str) -> str:
    """Return a name that a job can have. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"must be letters, digits, '.', '_' and '-', beginning with a letter or digit, not {name[:100]!r}"
        )
    return name


def find_job(name: str) -> Job:
    """Return a job with its list. Raises NoSuchJob."""
    found = Job.objects.select_related("list").filter(name=name.replace("\x00", "")).first()
    if found is None:
        raise NoSuchJob(f"there is no job {name[:200]!r}; manage.py job list shows which there are")
    return found


def check_new(name: str) -> None:
    """Raise JobError where a job has this name."""
    if Job.objects.filter(name=name).exists():
        raise JobError(f"there is a job {name} already: change it with job set, its list with job import")


def create_job(name: str, target_list: TargetList, wanted: Wanted) -> Job:
    """Save a job. Raises JobError where there is one of this name, ValueError for a name that no job can have."""
    check_name(name)  # it stands in logs, paths and tables
    job = Job(name=name, list=target_list)
    _put(job, wanted)
    try:
        with transaction.atomic():
            job.save(force_insert=True)
            timers.set_alarm(job)
    except IntegrityError:  # another process was faster
        check_new(name)
        raise
    return job


def change_job(name: str, wanted: Wanted) -> Job:
    """Change what is wanted otherwise. Raises NoSuchJob."""
    with transaction.atomic():
        job = _locked(name)
        _put(job, wanted)
        job.save()
        timers.set_alarm(job, anew=wanted.schedule is not None)
    return job


def replace_list(name: str, target_list: TargetList) -> None:
    """Give a job another list at once; the old one is removed then. Raises NoSuchJob."""
    with transaction.atomic():
        job = _locked(name)
        old, job.list = job.list_id, target_list
        job.updated_at = timezone.now()
        job.save(update_fields=["list", "updated_at"])
    lists.remove(old)


def pause_or_resume(name: str, *, enabled: bool) -> bool:
    """Let a job fire, or not; returns whether that was otherwise before. Raises NoSuchJob."""
    with transaction.atomic():
        job = _locked(name)
        changed = job.enabled != enabled
        job.enabled = enabled
        job.updated_at = timezone.now()
        job.save(update_fields=["enabled", "updated_at"])
        timers.set_alarm(job)
    return changed


def remove_job(name: str) -> None:
    """Remove a job and its list; its runs stay. Raises NoSuchJob."""
    with transaction.atomic():
        job = _locked(name)
        old = job.list_id
        timers.remove_alarm(job.pk)
        job.delete()
    lists.remove(old)


def busy_with(job: Job) -> int | None:
    """Return the newest run of a job that is in progress, None where there is none."""
    runs = Run.objects.alive().filter(job_name=job.name, job_id=job.pk)
    return runs.order_by("-id").values_list("id", flat=True).first()


def begin_run(name: str, config: FetchConfig, options: RunOptions) -> int:
    """Add a pending run over a job's list as it is now and return its id; inside the transaction in which it starts.

    Raises JobBusy where another one is in progress, NoSuchJob.
    """
    job = _locked(name)  # until the run has begun: two at once would both find the job idle
    if (run := busy_with(job)) is not None:
        raise JobBusy(job.name, run)
    target_list = job.list
    return create_prepared(
        target_list.shards.all(),
        config,
        options,
        label=job.name,
        source=f"job {job.name}",
        job=(job.pk, job.name),
        secrets=target_list.secrets,
    )


def _locked(name: str) -> Job:
    job = Job.objects.select_for_update(no_key=True).filter(name=name).first()
    if job is None:
        raise NoSuchJob(f"there is no job {name[:200]!r} any more")
    return job


def usual_keep_runs(schedule: Schedule) -> int:
    """Return how many runs a job keeps by default: 50, or as many as three days have where that is more.

    50 runs of a job that is due every 10 minutes are 8 hours: a failure of the night would be gone in the morning.
    """
    times = next_times(schedule, _A_MONDAY, KEEP_RUNS + 1)
    if len(times) <= KEEP_RUNS:
        return KEEP_RUNS
    return max(KEEP_RUNS, math.ceil(KEEP_RUNS * (KEEP_AT_LEAST / (times[-1] - times[0]))))


def _usual_before(job: Job) -> int | None:
    """Return what ``usual_keep_runs`` gave for a job's schedule, None where its time zone is not known here."""
    try:
        return usual_keep_runs(job.schedule)
    except ScheduleError:
        return None


def _put(job: Job, wanted: Wanted) -> None:
    if wanted.config is not None and wanted.options is not None:
        job.options = dump_options(wanted.config, wanted.options)
        job.secrets = dump_secrets(wanted.config, wanted.options)
    if wanted.schedule is not None:
        if job.keep_runs == _usual_before(job):
            job.keep_runs = usual_keep_runs(wanted.schedule)
        job.schedule = wanted.schedule
    for column, value in (wanted.policies or {}).items():
        setattr(job, column, value)
    job.updated_at = timezone.now()
