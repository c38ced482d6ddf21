"""What django-q2 calls: thin, synchronous, with ids for arguments. What is to be done is in the database."""

from __future__ import annotations

import asyncio

from fetcher.dispatch import dispatcher
from fetcher.slices import work_slice


def work(run: int) -> int | None:
    """Work a slice of a run, or of another that needs it more; returns which, None where there was nothing to do."""
    done = asyncio.run(work_slice(run, dispatcher()))
    if done is None:
        return None
    if done.over:
        from jobs.sweeping import after_run

        after_run(done.run)
    return done.run


def fire(job: int, intended: str) -> str:
    """Let a job's schedule fire for the time that is meant; returns what became of it."""
    from jobs.firing import fire_job

    return fire_job(job, intended)


def sweep() -> int:
    """Wake what was lost: runs that nobody works on, schedules that did not fire. Returns how many."""
    from jobs.sweeping import sweep_all

    return sweep_all()
