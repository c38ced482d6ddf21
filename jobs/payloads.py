"""The shapes that readers of jobs get; the rules are those of ``fetcher.payloads``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from django.db.models import QuerySet
from django.utils import timezone

from fetcher.models import Run
from fetcher.payloads import RunItem, run_items, timestamp
from fetcher.shown import shown_options
from jobs import timers
from jobs.models import Firing, Job
from jobs.schedules import ScheduleError, next_times

NEXT_TIMES = 3
LAST_RUNS = 5
LAST_FIRINGS = 10


class ScheduleItem(msgspec.Struct, frozen=True):
    """When a job is due. ``kind`` is every, daily, weekly or cron; what it does not need is null.

    ``every_minutes`` is counted from 1970 in UTC; ``at`` is HH:MM; ``weekday`` is 0 on Mondays.
    """

    kind: str
    text: str
    every_minutes: int | None
    at: str | None
    weekday: int | None
    cron: str | None
    time_zone: str


class RetentionItem(msgspec.Struct, frozen=True):
    """What is kept of a job: the newest ``runs``, and of these none that is older than ``days``."""

    runs: int
    days: int


class JobItem(msgspec.Struct, frozen=True):
    """A job as lists show it.

    ``schedule`` is null where it has none. ``due_at`` is when it is due next, null where that is never, as while it is
    paused. ``targets``, ``duplicates`` and ``rejected`` are of the import of its list,
    ``imported_at`` is when that began. ``options`` hold no secret.
    """

    id: int
    name: str
    enabled: bool
    schedule: ScheduleItem | None
    due_at: str | None
    overlap: str
    missed: str
    start_jitter_s: int
    retention: RetentionItem
    source: str | None
    targets: int
    duplicates: int
    rejected: int
    imported_at: str
    created_at: str
    updated_at: str
    options: dict[str, Any]


class FiringItem(msgspec.Struct, frozen=True):
    """A time at which a job was due, and what became of it.

    ``state``: ran, and ``run`` is its number (which may have been removed since); skipped, waiting, missed or failed,
    and ``reason`` says why. ``at`` is when that was decided.
    """

    intended_at: str
    at: str
    state: str
    run: int | None
    reason: str | None


class JobDetail(JobItem, frozen=True):
    """A job alone: with the next times it is due (none while it is paused), its last firings and its last runs.

    Both have the newest first. ``overdue_since`` is the time for which it should have fired, had anybody been there.
    """

    next_times: list[str]
    overdue_since: str | None
    firings: list[FiringItem]
    runs: list[RunItem]


def job_items(jobs: QuerySet[Job], now: datetime | None = None) -> list[JobItem]:
    """Return these jobs in the queryset's order, in one query."""
    now = now or timezone.now()
    return [JobItem(**_values(job, due(job, now, 1))) for job in _rows(jobs)]


def job_detail(name: str, now: datetime) -> JobDetail | None:
    """Return one job, or None where there is none of this name."""
    job = _rows(Job.objects.filter(name=name)).first()
    if job is None:
        return None
    runs = Run.objects.filter(job_name=job.name, job_id=job.pk).order_by("-id")[:LAST_RUNS]
    times, overdue = due(job, now), timers.overdue_since(job.pk, now)
    return JobDetail(
        **_values(job, times),
        next_times=[timestamp(time) for time in times],
        overdue_since=timestamp(overdue) if overdue else None,
        firings=firing_items(job),
        runs=run_items(runs),
    )


def firing_items(job: Job) -> list[FiringItem]:
    """Return the last firings of a job, the newest first."""
    return [
        FiringItem(timestamp(row.intended_at), timestamp(row.at), row.state, row.run, row.reason or None)
        for row in Firing.objects.filter(job=job).order_by("-intended_at")[:LAST_FIRINGS]
    ]


def due(job: Job, now: datetime, count: int = NEXT_TIMES) -> list[datetime]:
    """Return the next times at which a job is due, in UTC; none while it is paused."""
    try:
        return next_times(job.schedule, now, count) if job.enabled else []
    except ScheduleError:  # its time zone was known where it was saved
        return []


def schedule_text(job: Job) -> str:
    """Say in words when a job is due."""
    try:
        return str(job.schedule)
    except ScheduleError as exc:
        return f"{job.schedule_kind}: {exc}"


def _rows(jobs: QuerySet[Job]) -> QuerySet[Job]:
    return jobs.select_related("list").defer("secrets")


def _values(job: Job, times: list[datetime]) -> dict[str, Any]:
    schedule = ScheduleItem(
        kind=job.schedule_kind,
        text=schedule_text(job),
        every_minutes=job.every_minutes,
        at=job.at or None,
        weekday=job.weekday,
        cron=job.cron or None,
        time_zone=job.time_zone,
    )
    return {
        "id": job.pk,
        "name": job.name,
        "enabled": job.enabled,
        "schedule": None if job.schedule_kind == "none" else schedule,
        "due_at": timestamp(times[0]) if times else None,
        "overlap": job.overlap,
        "missed": job.missed,
        "start_jitter_s": job.start_jitter,
        "retention": RetentionItem(job.keep_runs, job.keep_days),
        "source": job.list.source or None,
        "targets": job.list.size,
        "duplicates": job.list.duplicates,
        "rejected": job.list.rejected,
        "imported_at": timestamp(job.list.created_at),
        "created_at": timestamp(job.created_at),
        "updated_at": timestamp(job.updated_at),
        "options": shown_options(job.options),
    }
