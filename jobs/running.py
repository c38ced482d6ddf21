"""One run of a job, and what is pruned of earlier ones afterwards."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import httpx
from django.utils import timezone

from fetcher.dispatch import Dispatcher
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.listener import Listener
from fetcher.models import RunState
from fetcher.options import RunOptions
from fetcher.queueing import queue_prepared
from fetcher.service import fetch_prepared
from fetcher.store import prune
from fetcher.store.request_bodies import prune_request_bodies
from jobs.models import Job
from jobs.store import begin_run


async def fetch_job(
    name: str,
    config: FetchConfig,
    options: RunOptions,
    *,
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    control: Control | None = None,
    workers: int = 1,
) -> RunState:
    """Fetch a job's list as one run with the job's ``config`` and ``options``, and return the state it ended in.

    Raises JobBusy where another run of it is in progress, NoSuchJob, and otherwise as ``fetch_prepared`` does.
    """
    return await fetch_prepared(
        partial(begin_run, name, config, options),
        config,
        options,
        listener=listener,
        transport=transport,
        control=control,
        workers=workers,
    )


async def queue_job(
    name: str,
    config: FetchConfig,
    options: RunOptions,
    *,
    dispatcher: Dispatcher,
    listener: Listener | None = None,
    control: Control | None = None,
) -> RunState:
    """Have the cluster fetch a job's list as one run, and return the state that it is in once it has it.

    Raises JobBusy, NoSuchJob, and otherwise as ``queue_prepared`` does.
    """
    return await queue_prepared(
        partial(begin_run, name, config, options),
        config,
        options,
        dispatcher=dispatcher,
        listener=listener,
        control=control,
    )


def expired_runs(job: Job, now: datetime | None = None) -> list[int]:
    """Return the ids of the runs of a job that its retention does not keep: too many, or too old."""
    now = now or timezone.now()
    surplus = prune.prunable(keep=job.keep_runs, before=None, now=now, job=job.pk)
    old = prune.prunable(keep=None, before=now - timedelta(days=job.keep_days), now=now, job=job.pk)
    return sorted({*surplus, *old})


def prune_job(job: Job) -> prune.Pruned:
    """Remove what a job's retention does not keep. Raises DatabaseError, OSError."""
    pruned = prune.Pruned()
    for run in expired_runs(job):
        prune.prune_run(run, pruned)
    if pruned.representations:  # looking through all bodies costs too much after a run that changed nothing
        prune.prune_bodies(pruned)
    if pruned.results:
        prune_request_bodies(pruned)
    return pruned
