"""Runs as people read them: the list, one run's summary, and what is going on in it."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO

from django.db.models import Avg, Count, F, Max, Min, QuerySet, Sum
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from fetcher.cli.console import console_for
from fetcher.cli.summary import print_parts, print_summary
from fetcher.cli.tables import Column, Listing
from fetcher.cli.text import count, duration, printable, shortened
from fetcher.engine.config import FetchConfig
from fetcher.models import PLACES, RejectedLine, Result, ResultStatus, RunState, Shard
from fetcher.models.clock import database_now
from fetcher.payloads import RunItem
from fetcher.progress import HostTimes, Progress
from fetcher.store.runs import dump_options

OVER = (RunState.COMPLETED, RunState.INTERRUPTED, RunState.CANCELLED, RunState.FAILED)
HOSTS_UP_TO = 50_000
"""Results; in a larger run nobody waits for the slowest hosts."""
LINE_EVERY = 5.0
"""Seconds between two lines of a watched run where there is no terminal."""
REDRAW_EVERY = 1.0
_REJECTED_SHOWN = 20
_COLOURS = {"completed": "green", "running": "cyan", "interrupted": "yellow", "cancelled": "yellow", "failed": "red"}
_COLUMNS = (
    Column("run", right=True),
    Column("label or source", folds=True),
    Column("state", gives_way=1),
    Column("targets", gives_way=5, right=True),
    Column("succeeded", gives_way=6, right=True),
    Column("not modified", gives_way=9, right=True),
    Column("failed", gives_way=2, right=True),
    Column("skipped", gives_way=8, right=True),
    Column("pending", gives_way=4, right=True),
    Column("when", gives_way=3),
    Column("took", gives_way=7, right=True),
)


def print_runs(stream: TextIO, runs: Sequence[RunItem]) -> None:
    """Print a table of runs, a line each."""
    print_parts(stream, [Listing(_COLUMNS, map(_row, runs))])


def _row(run: RunItem) -> tuple[str | Text, ...]:
    counts = (run.total, run.succeeded, run.not_modified, run.failed, run.skipped, run.pending)
    return (
        str(run.id),
        run.label or Text(shortened(printable(run.source or ""), 40), "dim"),
        Text(run.state, _COLOURS.get(run.state, "")),
        *map(count, counts),
        (run.started_at or run.created_at)[:16].replace("T", " "),
        _took(run),
    )


def print_run(stream: TextIO, run: RunItem) -> None:
    """Print what is stored of a run: the summary, rejected lines, options that are not the usual ones."""
    print_summary(stream, stored_progress(run))
    parts: list[RenderableType] = [*_rejected(run), *unusual_options(run.options)]
    if run.source:
        parts.append(Text(f"Source: {printable(run.source)}"))
    if parts:
        stream.write("\n")
        print_parts(stream, parts)


def stored_progress(run: RunItem) -> Progress:
    """Return a run's stored figures in the form that its own process counts in."""
    seconds = _seconds(run) or _until_last_result(run)
    progress = Progress(
        run=run.id,
        began=time.monotonic() - (seconds or 0.0),
        clocked=bool(seconds),
        accepted=run.total,
        duplicates=run.duplicates,
        rejected=run.rejected,
        planned=run.state == RunState.COMPLETED,
        bytes=run.bytes,
        statuses=Counter({
            "succeeded": run.succeeded,
            "not_modified": run.not_modified,
            "failed": run.failed,
            "skipped": run.skipped,
        }),
    )  # fmt: skip
    complete(progress)
    return progress


def complete(progress: Progress) -> None:
    """Add what is known from the results alone, where they are not too many: retries, unchanged bytes, host times."""
    progress.known = progress.done <= HOSTS_UP_TO
    if not progress.known:
        return
    for times in _host_times(progress.run):
        progress.timed(times)
    within = _results(progress.run)
    attempted = within.filter(attempts__gt=1).aggregate(more=Sum(F("attempts") - 1))
    progress.meter.retries = attempted["more"] or 0
    unchanged = within.filter(status=ResultStatus.NOT_MODIFIED).aggregate(size=Sum("representation__body__size"))
    progress.unchanged_bytes = unchanged["size"] or 0


def _until_last_result(run: RunItem) -> float | None:
    """Return about how long a run went on that could not say when it ended; None where clocks contradict each other."""
    ids = Result.objects.filter(id__lt=(_last_shard(run.id) + 1) * PLACES, run=run.id).order_by("-id")
    last = ids.values_list("started_at", flat=True).first() if run.started_at and run.pending < run.total else None
    started = None if run.started_at is None else datetime.fromisoformat(run.started_at)
    return None if last is None or started is None or last < started else (last - started).total_seconds()


def _last_shard(run: int) -> int:
    return Shard.objects.filter(run=run).aggregate(last=Max("id"))["last"] or 0


def _results(run: int) -> QuerySet[Result]:
    """Return a run's results, by id: that a result belongs to a run is in no index of its own."""
    ends = Shard.objects.filter(run=run).aggregate(first=Min("id"), last=Max("id"))
    if ends["first"] is None:
        return Result.objects.none()
    return Result.objects.filter(run=run, id__gte=ends["first"] * PLACES, id__lt=(ends["last"] + 1) * PLACES)


def _host_times(run: int) -> Iterable[HostTimes]:
    rows = (
        _results(run)
        .filter(attempts__gt=0)
        .values("target__host")
        .annotate(number=Count("id"), mean=Avg("elapsed_us"), longest=Max("elapsed_us"))
        .order_by("-mean")[:100]
    )
    for row in rows:
        total = float(row["mean"]) * row["number"] / 1e6
        yield HostTimes(row["target__host"], row["number"], total, row["longest"] / 1e6)


def _rejected(run: RunItem) -> list[RenderableType]:
    if not run.rejected:
        return []
    lines = RejectedLine.objects.filter(run=run.id).order_by("id")[:_REJECTED_SHOWN]
    text = Text("Rejected lines")
    for line in lines:
        text.append(f"\n{printable(f'{line.source}:{line.line}: {line.value!r} {line.reason}')}")
    if run.rejected > _REJECTED_SHOWN:
        text.append(f"\n… and {count(run.rejected - _REJECTED_SHOWN)} more")
    return [text]


def unusual_options(options: dict[str, Any]) -> list[RenderableType]:
    """Return the options that are not the usual ones, for printing; nothing where all are."""
    usual = dump_options(FetchConfig())
    changed = {name: value for name, value in options.items() if name not in usual or usual[name] != value}
    if not changed:
        return []
    text = Text("Options other than the usual")
    for name, value in sorted(changed.items()):
        text.append(f"\n{name} = {printable(json.dumps(value, ensure_ascii=False))}")
    return [text]


def watch_run(stream: Any, find: Callable[[], RunItem], *, sleep: Callable[[float], None] = time.sleep) -> RunItem:
    """Show a run until it is over and return it as it is then.

    A terminal gets one block that is redrawn, anything else a line every few seconds. ``find`` reads the run anew.
    """
    console = console_for(stream, soft_wrap=True)
    run = find()
    if console.is_terminal:
        with Live(_block(run), console=console, auto_refresh=False, transient=True) as live:
            while run.state not in OVER:
                sleep(REDRAW_EVERY)
                run = find()
                live.update(_block(run), refresh=True)
        return run
    while run.state not in OVER:
        stream.write(f"{watch_line(run)}\n")
        stream.flush()
        sleep(LINE_EVERY)
        run = find()
    return run


def _block(run: RunItem) -> Text:
    return Text(watch_line(run), _COLOURS.get(run.state, ""))


def watch_line(run: RunItem) -> str:
    """Return what is known of a run in one line."""
    done = run.total - run.pending
    parts = [f"{count(done)}/{count(run.total)}"]
    seconds = _seconds(run)
    if seconds and done:
        parts.append(f"{done / seconds:,.0f}/s")
    for name, number in (("failed", run.failed + run.skipped), ("rejected", run.rejected)):
        if number:
            parts.append(f"{count(number)} {name}")
    if seconds is not None:
        parts.append(duration(seconds))
    return f"run {run.id}: {run.state}, {', '.join(parts)}"


def _seconds(run: RunItem) -> float | None:
    """How long a run took, or has taken so far; None where that is not known."""
    if run.started_at is None:
        return None
    end = None
    if run.finished_at is not None:
        end = datetime.fromisoformat(run.finished_at)
    elif run.state == RunState.RUNNING:
        end = database_now()
    return None if end is None else max(0.0, (end - datetime.fromisoformat(run.started_at)).total_seconds())


def _took(run: RunItem) -> str:
    seconds = _seconds(run)
    return "" if seconds is None else duration(seconds)


def exit_code(run: RunItem) -> int:
    """Return the exit code that a watched run ends with, as ``fetch_urls`` would."""
    if run.state != RunState.COMPLETED:
        return 1
    return 3 if run.failed or run.skipped or run.rejected else 0


@contextlib.contextmanager
def interruptible() -> Any:
    """Let Ctrl-C end the watching, and nothing else."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
