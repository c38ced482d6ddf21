"""The summary of a finished run."""

from __future__ import annotations

from typing import TextIO

from django.db.models import Count
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetcher.cli.text import count, duration, size
from fetcher.engine.types import Status
from fetcher.models import Result, Run
from fetcher.progress import Progress

_SAMPLES = 5
_HOSTS = 3
_COLOURS = {Status.SUCCEEDED: "green", Status.NOT_MODIFIED: "green", Status.FAILED: "red", Status.SKIPPED: "yellow"}


def print_summary(stream: TextIO, progress: Progress, *, command: str = "manage.py") -> None:
    """Print counts by status and reason, examples of what failed, the slowest hosts, and how to read the results."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    run = Run.objects.get(pk=progress.run)
    console.print(_headline(run, progress))
    console.print()
    console.print(_counts(progress))
    _print_failures(console, run)
    _print_hosts(console, progress)
    base = f"/api/v1/runs/{run.pk}/"
    steps = Table.grid(padding=(0, 2))
    steps.add_row("Read as JSON", f"{command} serve, then http://127.0.0.1:8000{base}results/")
    if progress.failed:
        steps.add_row("What failed", f"http://127.0.0.1:8000{base}results/?status=failed")
    console.print()
    console.print(steps)


def _headline(run: Run, progress: Progress) -> Text:
    text = Text(f"Run {run.pk}", style="bold")
    if run.label:
        text.append(f" ({run.label})")
    facts = (
        f" {run.state} in {duration(progress.elapsed)}: {count(progress.accepted, 'target')}, "
        f"{progress.rate:,.1f}/s, {size(progress.bytes)} received"
    )
    return text.append(facts, style="not bold")


def _counts(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    reasons = _reasons(progress.run) if progress.failed else {}
    for status in Status:
        number = progress.statuses[status.value]
        if number or status in (Status.SUCCEEDED, Status.FAILED):
            style = _COLOURS[status] if number else ""
            table.add_row(Text(status.value, style), count(number), reasons.get(status.value, ""))
    pending = progress.accepted - progress.done
    if pending > 0:
        table.add_row(Text("pending", "yellow"), count(pending), "not fetched yet")
    if progress.duplicates:
        table.add_row("duplicates", count(progress.duplicates), "listed more than once, fetched once")
    if progress.rejected:
        table.add_row(
            Text("rejected", "yellow"), count(progress.rejected), "lines that are no URLs, with reasons above"
        )
    return table


def _reasons(run: int) -> dict[str, str]:
    """Return ``timeout 4, http_status 404 2`` for each unsuccessful status, the most frequent first."""
    groups = (
        Result.objects.unsuccessful()
        .filter(run=run)
        .values_list("status", "error_kind", "http_status")
        .annotate(number=Count("id"))
        .order_by("-number")
    )
    reasons: dict[str, list[str]] = {}
    for status, kind, code, number in groups:
        name = f"{kind} {code}" if kind == "http_status" else kind
        reasons.setdefault(status, []).append(f"{count(number)} {name}")
    return {status: ", ".join(parts) for status, parts in reasons.items()}


def _print_failures(console: Console, run: Run) -> None:
    samples = (
        Result.objects.unsuccessful()
        .filter(run=run)
        .order_by("id")
        .values_list("target__url", "error_kind", "error_detail", "attempts")[:_SAMPLES]
    )
    if not samples:
        return
    table = Table.grid(padding=(0, 2))
    for url, kind, detail, attempts in samples:
        times = f" (after {count(attempts, 'attempt')})" if attempts > 1 else ""
        table.add_row("", Text(kind or "", "red"), Text(f"{_short(url)}\n{detail}{times}"))
    console.print("\nFor example")
    console.print(table)


def _print_hosts(console: Console, progress: Progress) -> None:
    slowest = progress.slowest_hosts(_HOSTS)
    if not slowest:
        return
    table = Table.grid(padding=(0, 2))
    for times in slowest:
        table.add_row(
            "",
            times.host,
            f"{duration(times.mean)} on average",
            f"{duration(times.longest)} at most",
            count(times.count, "target"),
        )
    console.print("\nSlowest hosts")
    console.print(table)


def _short(url: str, width: int = 100) -> str:
    return url if len(url) <= width else url[: width - 1] + "…"
