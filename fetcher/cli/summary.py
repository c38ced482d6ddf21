"""The summary of a finished run."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from django.db.models import Count, Min
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fetcher.cli.console import console_for
from fetcher.cli.text import count, duration, printable, program, shortened, size
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status
from fetcher.models import Result, Run, RunState
from fetcher.payloads import run_items
from fetcher.progress import Progress
from fetcher.shown import shown_url
from fetcher.store import trouble

_SAMPLES = 5
_HOSTS = 3
_COLOURS = {Status.SUCCEEDED: "green", Status.NOT_MODIFIED: "green", Status.FAILED: "red", Status.SKIPPED: "yellow"}
_OVER = (RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED)
_UNBOUNDED = 10_000
"""Columns of what is no terminal: nothing is wrapped."""


def print_summary(stream: TextIO, progress: Progress) -> None:
    """Print counts by status and reason, an example of each reason, the slowest hosts, and how to read the results.

    A terminal gets colours and lines as wide as it is; anything else plain lines, neither wrapped nor padded.
    """
    run = Run.objects.get(pk=progress.run)
    state = run_items(Run.objects.filter(pk=run.pk))[0].state
    reasons = failure_reasons(progress.run) if progress.failed else []
    parts: list[RenderableType] = [_headline(run, state, progress)]
    if run.error:
        parts.append(Text(f"Why it failed: {printable(run.error)}", "red"))
    elif text := trouble.told_of(run.trouble, progress.done):
        parts.append(Text(f"What is wrong: {printable(text)}", "red"))
    parts.append(_counts(progress, reasons))
    parts += _section("For example", _samples(reasons))
    parts += _section("Slowest hosts", _hosts(progress))
    parts += [_next_steps(run.pk, state, progress, program())]
    print_parts(stream, parts)


def print_handed(stream: TextIO, progress: Progress) -> None:
    """Print what was handed over to the cluster, and how to follow and to cancel it."""
    run = Run.objects.get(pk=progress.run)
    headline = Text(f"Run {run.pk}", style="bold")
    if run.label:
        headline.append(f" ({printable(run.label)})")
    headline.append(f" was handed over to the cluster: {count(progress.accepted, 'target')}", style="not bold")
    table = _table()
    table.columns[2].justify = "right"
    _add_inputs(table, progress)
    steps = Table.grid(padding=(0, 2, 0, 0))
    steps.add_row("Follow it", f"{program()} runs show {run.pk} --watch")
    steps.add_row("Cancel it", f"{program()} runs cancel {run.pk}")
    print_parts(stream, [headline, *([table] if table.rows else []), steps])


def figures(progress: Progress) -> dict[str, float | str | None]:
    """Return the summary's figures as JSON values; ``unchanged_bytes`` are those that a 304 spared.

    Of a long run that the cluster fetched retries and unchanged bytes are not known.
    """
    return {
        "elapsed_ms": round(progress.elapsed * 1000, 3),
        "per_second": round(progress.rate, 3),
        "retries": progress.retries if progress.known else None,
        "bytes": progress.bytes,
        "transport": progress.through or None,
        "not_modified": progress.statuses[Status.NOT_MODIFIED],
        "unchanged_bytes": progress.unchanged_bytes if progress.known else None,
        "duplicates": progress.duplicates,
        "rejected": progress.rejected,
    }


def print_parts(stream: TextIO, parts: Sequence[RenderableType]) -> None:
    """Print parts with an empty line between two; neither wrapped nor padded where the stream is no terminal."""
    terminal = console_for(stream)
    if terminal.is_terminal:
        _draw(terminal.print, parts)
        return
    page = console_for(io.StringIO(), width=_UNBOUNDED, color_system=None, force_terminal=False)
    with page.capture() as capture:
        _draw(page.print, parts)
    stream.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _draw(show: Callable[..., None], parts: Sequence[RenderableType]) -> None:
    for number, part in enumerate(parts):
        if number:
            show()
        show(part)


@dataclass(slots=True)
class Reason:
    """Why so many targets have a status; ``example`` is the id of the first such result."""

    status: str
    text: str
    number: int
    example: int


def failure_reasons(run: int) -> list[Reason]:
    """Return the reasons of unsuccessful results, the most frequent first; only http_status is split by its code."""
    groups = (
        Result.objects.unsuccessful()
        .filter(run=run)
        .values_list("status", "error_kind", "http_status")
        .annotate(number=Count("id"), example=Min("id"))
        .order_by()
    )
    found: dict[tuple[str, str], Reason] = {}
    for status, kind, code, number, example in groups:
        text = f"{kind} {code}" if kind == ErrorKind.HTTP_STATUS else str(kind)
        reason = found.setdefault((status, text), Reason(status, text, 0, example))
        reason.number += number
        reason.example = min(reason.example, example)
    return sorted(found.values(), key=lambda reason: (-reason.number, reason.text))


def _headline(run: Run, state: str, progress: Progress) -> Text:
    text = Text(f"Run {run.pk}", style="bold")
    if run.label:
        text.append(f" ({printable(run.label)})")
    facts = [count(progress.accepted, "target")]
    if progress.done:
        through = f" through {progress.through}" if progress.through else ""
        facts += [f"{progress.rate:,.1f}/s"] if progress.clocked else []
        facts += [f"{size(progress.bytes)} received{through}"]
    took = f" in {duration(progress.elapsed)}" if progress.clocked else ""
    return text.append(f" {state}{took}: {', '.join(facts)}", style="not bold")


def _counts(progress: Progress, reasons: Sequence[Reason]) -> Table:
    table = _table()
    table.columns[2].justify = "right"
    for status in Status:
        number = progress.statuses[status.value]
        if number or status in (Status.SUCCEEDED, Status.FAILED):
            why = ", ".join(f"{count(reason.number)} {reason.text}" for reason in reasons if reason.status == status)
            if status is Status.NOT_MODIFIED:
                saved = f", which saved {size(progress.unchanged_bytes)}" if progress.known else ""
                why = f"answered 304{saved}"
            table.add_row("", Text(status.value, _COLOURS[status] if number else ""), count(number), why)
    pending = progress.accepted - progress.done
    if pending > 0:
        table.add_row("", Text("pending", "yellow"), count(pending), "not fetched yet")
    _add_inputs(table, progress)
    return table


def _add_inputs(table: Table, progress: Progress) -> None:
    if progress.duplicates:
        table.add_row("", "duplicates", count(progress.duplicates), "listed more than once, fetched once")
    if progress.rejected:
        why = "lines that are no URLs, with reasons above"
        table.add_row("", Text("rejected", "yellow"), count(progress.rejected), why)


def _samples(reasons: Sequence[Reason]) -> Table:
    """Show the first result of each of the most frequent reasons."""
    table = _table()
    shown = {reason.example: reason.text for reason in reasons[:_SAMPLES]}
    rows = Result.objects.filter(id__in=shown).values_list("id", "target__url", "error_detail", "attempts")
    for pk, url, detail, attempts in sorted(rows, key=lambda row: list(shown).index(row[0])):
        times = f" (after {count(attempts, 'attempt')})" if attempts > 1 else ""
        table.add_row(
            "", Text(shown[pk], "red"), Text(f"{printable(shortened(shown_url(url), 100))}\n{printable(detail)}{times}")
        )
    return table


def _hosts(progress: Progress) -> Table:
    """Show the slowest hosts, where there are hosts to compare."""
    table = _table()
    slowest = progress.slowest_hosts(_HOSTS)
    for times in slowest if len(slowest) > 1 else []:
        mean, longest = f"{duration(times.mean)} on average", f"{duration(times.longest)} at most"
        table.add_row("", printable(times.host), mean, longest, count(times.count, "target"))
    return table


def _next_steps(run: int, state: str, progress: Progress, command: str) -> Table:
    base = f"http://127.0.0.1:8000/api/v1/runs/{run}/results/"
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("Read as JSON", f"{command} serve, then {base}")
    if state == RunState.INTERRUPTED:
        table.add_row("Go on", f"{command} fetch_urls --resume {run}")
    if progress.failed:
        table.add_row("What failed", f"{base}?status=failed")
        if state in _OVER:
            table.add_row("Try again", f"{command} fetch_urls --retry-failed {run}")
    return table


def _section(title: str, table: Table) -> list[Group]:
    """Put a title above a table that has rows."""
    return [Group(title, table)] if table.rows else []


def _table() -> Table:
    """Return a table without lines whose first, empty column indents it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(overflow="fold")  # an ellipsis would hide the end of a host or a URL
    return table
