"""Jobs as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fetcher.cli.runs import print_runs, unusual_options
from fetcher.cli.summary import print_parts
from fetcher.cli.tables import Column, Listing
from fetcher.cli.text import count, printable, shortened
from jobs.models import JobRejectedLine
from jobs.payloads import JobDetail, JobItem

_REJECTED_SHOWN = 20
_COLOURS = {"ran": "green", "waiting": "cyan", "skipped": "yellow", "missed": "yellow", "failed": "red"}
_COLUMNS = (
    Column("job", folds=True),
    Column("state", gives_way=2),
    Column("targets", gives_way=4, right=True),
    Column("schedule", gives_way=3),
    Column("due next", gives_way=1),
    Column("source", gives_way=5),
)
_FIRING_COLUMNS = ("due", "what became of it", "run", "why")


def print_jobs(stream: TextIO, jobs: Sequence[JobItem]) -> None:
    """Print a table of jobs, a line each."""
    print_parts(stream, [Listing(_COLUMNS, map(_row, jobs))])


def _row(job: JobItem) -> tuple[str, ...]:
    due = _by_its_clock(job, job.due_at) if job.due_at else ""
    return job.name, _state(job), count(job.targets), _schedule(job), due, shortened(job.source or "", 40)


def print_job(stream: TextIO, job: JobDetail, list_id: int) -> None:
    """Print all that is known of a job, with its last firings and runs."""
    table = _grid()
    for name, text in _facts(job):
        table.add_row(Text(name), Text(text))
    parts: list[RenderableType] = [Text(f"Job {job.name}", "bold"), table]
    if job.rejected:
        parts.append(_rejected(job, list_id))
    print_parts(stream, [*parts, *unusual_options(job.options)])
    if job.firings:
        stream.write("\n")
        _print_firings(stream, job)
    if job.overdue_since:
        since = _by_its_clock(job, job.overdue_since)
        stream.write(f"\nOverdue since {since}: nobody came. Is manage.py qcluster running?\n")
    if job.runs:
        stream.write("\n")
        print_runs(stream, job.runs)
    else:
        stream.write(f"\nNo run yet: manage.py job run {job.name}\n")


def _facts(job: JobDetail) -> list[tuple[str, str]]:
    passed_over = f"{count(job.duplicates, 'duplicate')}, {count(job.rejected, 'rejected line')}"
    times = [_by_its_clock(job, time) for time in job.next_times]
    return [
        ("state", _state(job)),
        ("targets", f"{count(job.targets)} ({passed_over})"),
        ("source", printable(job.source or "")),
        ("imported", job.imported_at[:16].replace("T", " ")),
        ("schedule", _schedule(job)),
        *([("due next", ", ".join(times))] if times else []),
        ("overlap", job.overlap),
        ("missed", job.missed),
        *([("start jitter", f"{job.start_jitter_s} s")] if job.start_jitter_s else []),
        ("kept", f"the last {count(job.retention.runs, 'run')}, and none over {count(job.retention.days, 'day')}"),
    ]


def _print_firings(stream: TextIO, job: JobDetail) -> None:
    table = _grid()
    for name in _FIRING_COLUMNS:
        table.add_column(justify="right" if name == "run" else "left", no_wrap=name != "why")
    table.add_row(*(Text(name, "bold") for name in _FIRING_COLUMNS))
    for firing in job.firings:
        run = "" if firing.run is None else str(firing.run)
        due = _by_its_clock(job, firing.intended_at)
        colour = _COLOURS.get(firing.state, "")
        table.add_row(due, Text(firing.state, colour), run, Text(printable(firing.reason or "")))
    print_parts(stream, [table])


def by_its_clock(time: datetime, time_zone: str) -> str:
    """Write a time as the clocks of a time zone show it; in UTC where this machine knows no such zone."""
    try:
        zone: tzinfo = ZoneInfo(time_zone)
    except (LookupError, ValueError, OSError):
        zone = UTC
    return f"{time.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _by_its_clock(job: JobItem, time: str) -> str:
    return by_its_clock(datetime.fromisoformat(time), job.schedule.time_zone if job.schedule else "UTC")


def _rejected(job: JobDetail, list_id: int) -> Text:
    text = Text("Rejected lines of the import")
    for line in JobRejectedLine.objects.filter(list=list_id).order_by("id")[:_REJECTED_SHOWN]:
        text.append(f"\n{printable(f'{line.source}:{line.line}: {line.value!r} {line.reason}')}")
    if job.rejected > _REJECTED_SHOWN:
        text.append(f"\n… and {count(job.rejected - _REJECTED_SHOWN)} more")
    return text


def _state(job: JobItem) -> str:
    return "enabled" if job.enabled else "paused"


def _schedule(job: JobItem) -> str:
    return job.schedule.text if job.schedule else "none"


def _grid() -> Any:
    return Table.grid(padding=(0, 2, 0, 0))
