"""``--plan``: what a run would do, as text or as JSON."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import msgspec
from django.core.management.base import CommandError, OutputWrapper
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fetcher import disk
from fetcher.cli.execution import SOME_FAILED, Rejections, clear_errors
from fetcher.cli.progress import Reporter
from fetcher.cli.streams import raw_stream, use_utf8
from fetcher.cli.summary import print_parts
from fetcher.cli.text import count, duration, printable, size
from fetcher.engine.config import FetchConfig
from fetcher.options import RunOptions
from fetcher.preview import HostPreview, Preview, preview
from fetcher.sources import Inputs, SourceError


def find_in(entries: Inputs, config: FetchConfig, options: RunOptions) -> Callable[[Reporter], Preview]:
    """Return what ``show_plan`` takes, for what is read from inputs."""

    def find(reporter: Reporter) -> Preview:
        entries.listen(reporter.message)
        return preview(entries, config, options, rejected=Rejections(reporter, kept=False))

    return find


def show_plan(
    find: Callable[[Reporter], Preview],
    config: FetchConfig,
    *,
    stdout: OutputWrapper,
    stderr: OutputWrapper,
    output: str = "summary",
    exit_zero: bool = False,
) -> None:
    """Print what a run would do; ``find`` tells the reporter of rejected lines, and returns it.

    Raises SystemExit (3: lines are rejected; 130) and CommandError (1).
    """
    out = raw_stream(stdout)
    use_utf8(out)
    reporter = Reporter("none", raw_stream(stderr))
    with clear_errors():
        try:
            found = find(reporter)
        except SourceError as exc:
            raise CommandError(str(exc)) from None
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None
    if output == "json":
        out.write(msgspec.json.format(msgspec.json.encode(document(found)), indent=2).decode() + "\n")
    else:
        print_parts(out, _parts(found, config))
    out.flush()
    if found.rejected and not exit_zero:
        raise SystemExit(SOME_FAILED)


def document(found: Preview) -> dict[str, Any]:
    """Return a plan as JSON values; names that end in ``_ms`` are milliseconds."""
    return {
        "targets": found.targets,
        "duplicates": found.duplicates,
        "rejected": found.rejected,
        "hosts": found.hosts,
        "known": found.known,
        "conditional": found.conditional,
        "at_least_ms": _ms(found.at_least),
        "estimate_ms": _ms(found.estimate),
        "database_bytes": _database_bytes(found),
        "earlier_results": found.samples,
        "earlier_hosts": found.sampled_hosts,
        "busiest": [
            {
                "host": host.host,
                "targets": host.targets,
                "conditional": host.conditional,
                "at_least_ms": _ms(host.at_least),
                "estimate_ms": _ms(host.estimate),
            }
            for host in found.busiest
        ],
    }


def _database_bytes(found: Preview) -> int | None:
    return disk.room_for(found.targets - found.known, found.known)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _parts(found: Preview, config: FetchConfig) -> list[RenderableType]:
    headline = Text("Plan", style="bold")
    headline.append(
        f": {count(found.targets, 'target')} on {count(found.hosts, 'host')}; nothing was requested or saved",
        style="not bold",
    )
    parts: list[RenderableType] = [headline]
    if (counts := _counts(found)).rows:
        parts.append(counts)
    if found.busiest:
        parts += [_hosts(found.busiest), _times(found, config)]
    return parts


def _counts(found: Preview) -> Table:
    table = _grid("left", "right", "left")
    if found.conditional:
        table.add_row("", "conditional", count(found.conditional), "have validators and probably cost only a 304")
    if found.duplicates:
        table.add_row("", "duplicates", count(found.duplicates), "listed more than once, fetched once")
    if found.rejected:
        table.add_row("", Text("rejected", "yellow"), count(found.rejected), "lines that are no URLs, reasons above")
    return table


def _hosts(busiest: list[HostPreview]) -> Table:
    table = _grid("left", "right", "left", "left")
    for host in busiest:
        known = f"{count(host.conditional)} conditional" if host.conditional else ""
        least = f"at least {duration(host.at_least)}" if host.at_least else ""
        expected = least if host.estimate is None else f"about {duration(host.estimate)}"
        table.add_row("", printable(host.host), count(host.targets, "target"), known, expected)
    return table


def _times(found: Preview, config: FetchConfig) -> Table:
    table = _grid("left", "left", indent=False)
    limits = f"at most {config.per_host} at once to a host, {config.concurrency} in all"
    if config.host_delay:
        limits += f", {config.host_delay:g} s between two to a host"
    at_least = duration(found.at_least) if found.at_least else "no bound without a host delay or earlier results"
    table.add_row("At least", f"{at_least} ({limits})")
    if found.estimate is not None:
        based = f"{count(found.samples, 'earlier result')} of {count(found.sampled_hosts, 'host')}"
        table.add_row("Probably", f"{duration(found.estimate)} (by {based})")
    else:
        table.add_row("Probably", "not known: nothing was fetched from these hosts before")
    if needed := _database_bytes(found):
        table.add_row("Database", f"about {size(needed)} more, bodies not counted")
    return table


def _grid(*justify: Any, indent: bool = True) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in ("left", *justify) if indent else justify:
        table.add_column(justify=side, overflow="fold")
    return table
