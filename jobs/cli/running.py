"""A job's run as ``fetch_urls`` shows one, with the job's policies around it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, connection

from fetcher.cli.calling import is_quiet
from fetcher.cli.execution import SOME_FAILED, follow
from fetcher.cli.output import print_no_run
from fetcher.cli.progress import Reporter
from fetcher.cli.queueing import hand_over, is_queued
from fetcher.cli.streams import raw_stream
from fetcher.cli.text import count
from fetcher.engine.config import FetchConfig
from fetcher.options import RunOptions
from fetcher.store.runs import load_config, load_options
from fetcher.texts import first_line
from jobs import store
from jobs.cli.editing import editing
from jobs.models import Job, Overlap
from jobs.running import fetch_job, prune_job, queue_job

_LOOK = 1.0
"""Seconds between two looks whether the run before is over."""


def run(
    options: dict[str, Any],
    *,
    stdout: OutputWrapper,
    stderr: OutputWrapper,
    scheduled: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch a job's list now, then remove what its retention does not keep; ends as ``follow`` does.

    A run that the cluster fetches is followed by the cluster's own clearing up.

    ``scheduled`` says that no person asks for it: then a job that is paused is passed over, and its jitter kept.
    """
    reporter = Reporter("none", raw_stream(stderr), quiet=is_quiet(options))
    queued = is_queued(options)
    with editing():
        job = store.find_job(options["name"])
        config, run_options = load_config(job), load_options(job)
    if scheduled and not job.enabled:
        reporter.message(f"job {job.name} is paused: nothing is fetched")
        print_no_run(stdout, options["output"])
        return
    try:
        if scheduled and job.start_jitter:
            connection.close()
            sleep(random.uniform(0, job.start_jitter))  # noqa: S311  (spreads a load)
        if _begun(job, config, run_options, options, reporter, stdout, stderr, sleep) and not queued:
            _prune(job, reporter)
    except SystemExit as exc:
        if exc.code == SOME_FAILED and not queued:  # otherwise the cluster prunes
            _prune(job, reporter)
        raise
    except KeyboardInterrupt:  # while it waits or prunes; fetching ends in order by itself
        raise SystemExit(130) from None


def _begun(
    job: Job,
    config: FetchConfig,
    run_options: RunOptions,
    options: dict[str, Any],
    reporter: Reporter,
    stdout: OutputWrapper,
    stderr: OutputWrapper,
    sleep: Callable[[float], None],
) -> bool:
    """Fetch, unless another run is in progress and the job's policy is to skip; then say so and return False."""
    waits = False
    while True:
        try:
            _fetch(job, config, run_options, options, stdout, stderr)
        except store.JobBusy as exc:
            if job.overlap == Overlap.SKIP:
                reporter.message(f"{exc}: this one is skipped (job set {job.name} --overlap queue would wait)")
                print_no_run(stdout, options["output"])
                return False
            if not waits:
                reporter.message(f"{exc}: waiting for its end")
                waits = True
        except store.NoSuchJob as exc:
            raise CommandError(str(exc)) from None
        else:
            return True
        _wait(job, sleep)


def _fetch(
    job: Job,
    config: FetchConfig,
    run_options: RunOptions,
    options: dict[str, Any],
    stdout: OutputWrapper,
    stderr: OutputWrapper,
) -> None:
    """Fetch here, or have the cluster do it. Raises JobBusy, NoSuchJob."""
    if options.get("queue"):
        hand_over(
            lambda listener, control, dispatcher: queue_job(
                job.name, config, run_options, dispatcher=dispatcher, listener=listener, control=control
            ),
            options,
            stdout=stdout,
            stderr=stderr,
        )
        return
    follow(
        lambda listener, control: fetch_job(
            job.name, config, run_options, listener=listener, control=control, workers=options["workers"]
        ),
        output=options["output"],
        progress_style=options["progress"],
        exit_zero=options["exit_zero"],
        quiet=is_quiet(options),
        stdout=stdout,
        stderr=stderr,
    )


def _wait(job: Job, sleep: Callable[[float], None]) -> None:
    with editing():
        while store.busy_with(job) is not None:
            sleep(_LOOK)


def _prune(job: Job, reporter: Reporter) -> None:
    try:
        pruned = prune_job(job)
    except (DatabaseError, OSError) as exc:  # the run itself is over, and saved
        reporter.release()
        reporter.message(f"old runs of job {job.name} were not removed: {first_line(exc)}; its next run tries again")
    else:
        if pruned.runs:
            reporter.message(f"removed {count(pruned.runs, 'old run')} of job {job.name}")
