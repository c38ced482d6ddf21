"""Pruning as people see it: what would go, what goes, and the space that it gives back."""

from __future__ import annotations

import argparse
import re
import time
from datetime import timedelta
from typing import TextIO

from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.utils import timezone

from fetcher.cli.runs import print_runs
from fetcher.cli.text import count, size
from fetcher.engine.durations import read_duration
from fetcher.models import Run
from fetcher.payloads import run_items
from fetcher.store import prune as store
from fetcher.store.request_bodies import prune_request_bodies
from fetcher.texts import first_line

_AGE = "an age such as 12h, 30d or 8w"
_LONGEST_AGE = timedelta(days=700_000)
_SHOWN = 50
_WORTH_A_VACUUM = 2**20
"""Bytes."""
_LINE_EVERY = 5.0


def age(text: str) -> timedelta:
    """Read an age such as ``90m``, ``12h``, ``30d`` or ``8w``. For argparse."""
    try:
        found = timedelta(seconds=read_duration(text, _AGE, needs_unit=True))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    except OverflowError:
        found = timedelta.max
    if found > _LONGEST_AGE:
        raise argparse.ArgumentTypeError(f"must be {_AGE}, not {text[:100]!r}: at most {_LONGEST_AGE.days}d")
    return found


def number_of_runs(text: str) -> int:
    """Read a number of runs. For argparse."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text[:100]!r}")
    return int(text)


def print_plan(out: TextIO, keep: int | None, older_than: timedelta | None) -> None:
    """Print which runs would go."""
    runs = _chosen(keep, older_than)
    if not runs:
        out.write("no run would be removed\n")
        return
    print_runs(out, run_items(Run.objects.filter(id__in=runs[:_SHOWN]).order_by("id")))
    more = f" ({count(len(runs) - _SHOWN)} more than shown)" if len(runs) > _SHOWN else ""
    out.write(f"{count(len(runs), 'run')} would be removed{more}\n")


def prune(out: TextIO, err: TextIO, keep: int | None, older_than: timedelta | None) -> None:
    """Prune with progress on ``err``, then say on ``out`` what was removed. Raises CommandError, SystemExit (130)."""
    runs = _chosen(keep, older_than)
    pruned = store.Pruned()
    report = _Progress(err, len(runs))
    stay: list[int] = []
    try:
        for run in runs:
            gone = store.prune_run(run, pruned, report)
            stay += [] if gone else [run]
        # Without a run to remove as well: an interrupted call may have left some.
        store.prune_bodies(pruned, report)
        prune_request_bodies(pruned, report)
    except KeyboardInterrupt:
        err.write(f"interrupted: {_told(pruned)} removed; the same call goes on\n")
        raise SystemExit(130) from None
    except OSError as exc:
        raise CommandError(f"a body's file cannot be removed: {first_line(exc)}; {_told(pruned)} removed") from exc
    out.write(f"{_told(pruned)} removed\n")
    if pruned.held:
        out.write(
            f"{count(pruned.held, 'result')} of {_listed(stay)} stay, because a run in progress may build upon them; "
            "prune again when it is over\n"
        )
    _give_back(out)


def _chosen(keep: int | None, older_than: timedelta | None) -> list[int]:
    now = timezone.now()
    try:
        before = None if older_than is None else now - older_than
    except OverflowError:  # before the calendar begins
        return []
    return store.prunable(keep=keep, before=before, now=now)


def _told(pruned: store.Pruned) -> str:
    bodies = f"{count(pruned.bodies)} {'body' if pruned.bodies == 1 else 'bodies'}"
    parts = [count(pruned.runs, "run"), count(pruned.results, "result"), bodies, count(pruned.files, "file")]
    if pruned.targets:
        parts.append(f"{count(pruned.targets, 'target')} with a request body")
    return ", ".join(parts)


def _listed(runs: list[int]) -> str:
    shown = ", ".join(map(str, runs[:10]))
    return f"{'run' if len(runs) == 1 else 'runs'} {shown}{', …' if len(runs) > 10 else ''}"


def _give_back(out: TextIO) -> None:
    free = store.free_bytes()
    if free is None:
        out.write("PostgreSQL reuses the space; autovacuum sees to that\n")
    elif free < _WORTH_A_VACUUM or connection.in_atomic_block:
        return
    elif store.in_progress():
        out.write(
            f"{size(free)} of the database file are unused and will be filled again; to shrink it, prune again when no "
            "run is in progress\n"
        )
    else:
        try:
            store.vacuum()
        except DatabaseError as exc:
            out.write(
                f"the database file could not be shrunk: {first_line(exc)}; that needs as much free disk as the data "
                "takes, and nobody else writing. The space will be filled again\n"
            )
        else:
            out.write(f"the database file was shrunk by {size(free)}\n")


class _Progress:
    """A line on standard error every few seconds."""

    def __init__(self, stream: TextIO, runs: int) -> None:
        self._stream = stream
        self._runs = runs
        self._last = time.monotonic()

    def __call__(self, pruned: store.Pruned) -> None:
        if time.monotonic() - self._last >= _LINE_EVERY:
            self._last = time.monotonic()
            self._stream.write(f"{_told(pruned)} of {count(self._runs, 'run')} removed so far\n")
            self._stream.flush()
