"""``--queue``: a run is planned here and handed over to the cluster; with ``--wait`` it is shown until it is over."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from fetcher.cli.calling import is_quiet
from fetcher.cli.execution import clear_errors, follow
from fetcher.cli.options import USAGE
from fetcher.cli.telling import AwaitedTelling, HandedTelling
from fetcher.cli.text import program
from fetcher.dispatch import Dispatcher, dispatcher
from fetcher.engine.config import ConfigError
from fetcher.engine.control import Control
from fetcher.following import follow_queued
from fetcher.listener import Listener
from fetcher.models import RunState

Planning = Callable[[Listener, Control, Dispatcher], Coroutine[Any, Any, RunState]]
"""Plans a run as ``fetcher.queueing`` does."""


def add_queue_options(group: argparse._ActionsContainer) -> None:
    """Add ``--queue`` and ``--wait``."""
    group.add_argument(
        "--queue",
        action="store_true",
        help="plan the run here and hand it over to the cluster, which fetches it (manage.py qcluster, on one machine "
        "or many)",
    )
    group.add_argument(
        "--wait",
        action="store_true",
        help="with --queue: show progress and results as if it were fetched here, and end with the same exit codes; "
        "Ctrl-C detaches, and the run goes on",
    )


def is_queued(options: dict[str, Any]) -> bool:
    """Whether the run is for the cluster. Raises CommandError (usage) for what cannot be combined."""
    if not options.get("queue"):
        if options.get("wait"):
            raise CommandError(
                "argument --wait: goes with --queue only: without it the run is fetched here", returncode=USAGE
            )
        return False
    if options["workers"] > 1:
        raise CommandError(
            "argument --workers: not allowed with --queue: the cluster has workers of its own (CLUSTER_WORKERS, "
            "FETCHER_RUN_WORKERS)",
            returncode=USAGE,
        )
    if options.get("plan"):
        raise CommandError("argument --plan: not allowed with --queue: it requests and saves nothing", returncode=USAGE)
    if options["output"] == "ndjson" and not options["wait"]:
        raise CommandError(
            "argument --output: ndjson prints results as they are saved: add --wait, or use summary or json",
            returncode=USAGE,
        )
    return True


def hand_over(
    planning: Planning,
    options: dict[str, Any],
    *,
    stdout: OutputWrapper,
    stderr: OutputWrapper,
    source: str = "",
    known: int | None = None,
) -> None:
    """Plan a run for the cluster, and end as ``follow`` does; ``known`` is the run where it is there already."""
    with clear_errors():
        found = dispatcher()
    wait = options["wait"]

    async def execution(listener: Listener, control: Control) -> RunState:
        try:
            return await follow_queued(
                planning(listener, control, found),
                listener,
                control,
                wait=wait,
                results=options["output"] == "ndjson",
                known=known,
                hint=f" Start one with: {program()} qcluster",
            )
        except ConfigError as exc:
            if exc.name != "deadline":
                raise
            given = options.get("deadline") is not None
            name = "argument --deadline:" if given else "the run's --deadline"
            raise CommandError(f"{name} {exc}", returncode=USAGE if given else 1) from None

    follow(
        execution,
        source=source,
        output=options["output"],
        progress_style=options["progress"],
        exit_zero=options["exit_zero"],
        quiet=is_quiet(options),
        stdout=stdout,
        stderr=stderr,
        telling=AwaitedTelling() if wait else HandedTelling(),
    )
