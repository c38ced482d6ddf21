"""The table on the terminal, and the page ``docs/benchmarks.md``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from tests.benchmarks.peers.goals import Row, cpu, growth, rate, rows, told_rows
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.rounds import Measured
from tests.benchmarks.peers.workloads import HOSTS, MILLION, OURS, TITLES, WORKLOADS, Workload
from tests.benchmarks.stacks.measuring import Report

_HEAD = """\
# Benchmarks

Written by `make bench`; change nothing here by hand. Measured on {date}.

A ratio is taken within each round and is the median of the rounds, with the lowest and the highest beside it. Only
ratios mean something elsewhere: absolute figures are this machine's.
"""
_HOW = """\
## How it is measured

- The origin is nginx with one worker process on a core of its own, on {hosts} loopback addresses. Each client is a
  process of its own on another core: its time begins when its imports are done and its list is read, and ends with the
  last answer, or with the last commit where it saves. `curl` is timed as a whole process.
- Clients take turns, {rounds} rounds, each round in another order. Retries, limits and exactly-once recording are on in
  Trawl, but limits for each host are lifted.
- Stacks that would take minutes are given fewer URLs; a column says how many each had.
- Each URL's answer has a body of its own: its path and a kilobyte of prose. Whatever saves compresses and hashes it.
- CPU is user and system time of the process, its threads and children. Memory is the peak of resident memory since just
  before the first request, less what was resident then.
- "Transport" is an `httpx.Request`, made as the engine makes it, handed to Trawl's transport and the raw body read;
  "engine" adds retries, limits, redirects and decoding; "fetch and save" is the pipeline alone, on a list that was
  planned before, as a job's run has it; "plan, fetch and save" reads and plans the list at the same time, as
  `fetch_urls` does.
- The raw writer is a thread that inserts result and body rows in batches of 500, compressed, with the columns that
  Trawl keeps: no retries, no limits, no check whether a result is there already, nothing to resume from. Scrapy's
  pipeline writes the same rows.
- Rates of `fetch_urls` are what its summary tells; its whole process, from start to exit, is in the column beside it.
  PostgreSQL runs on the same machine, on either core.
- Scrapy does not verify certificates, as is its default.
"""


def terminal_table(found: Iterable[Row]) -> str:
    """Return the figures as aligned lines."""
    lines = [("figure", "measured", "goal", "failure", "")]
    lines += [
        (row.name, _number(row.value, row.unit), _bound(row, row.goal), _bound(row, row.failure), row.verdict)
        for row in found
    ]
    return "\n".join(f"{a:<78} {b:>9}  {c:>14} {d:>14}  {e}".rstrip() for a, b, c, d, e in lines)


def terminal_rates(results: Results) -> str:
    """Return what each contender did, as aligned lines."""
    lines = [f"{'':<4}{'':<44} {'URLs/s':>10} {'CPU µs':>8}"]
    for name, contenders in results.measured.items():
        for contender, measured in contenders.items():
            title = TITLES.get(contender, contender)
            if measured.reason:
                lines.append(f"{name:<4}{title:<44} {measured.reason}")
            elif measured.reports:
                each = _median(measured.reports, cpu) * 1e6
                lines.append(f"{name:<4}{title:<44} {_median(measured.reports, rate):>10,.0f} {each:>8,.0f}")
    return "\n".join(lines)


def render(results: Results, million: Results | None, chart: str) -> str:
    """Return the page; ``chart`` is the picture's file name."""
    agreed = rows(results, million)
    rounds = max((len(m.reports) for found in results.measured.values() for m in found.values()), default=0)
    scale = (
        ""
        if results.scale == 1
        else f"\n**A quick look at {results.scale:g} of the sizes below: no figure to rely on.**\n"
    )
    parts = [
        _HEAD.format(date=results.date) + scale,
        "## Figures to reach\n\n" + _figures(agreed, goals=True),
        f"![URLs a second, by stack]({chart})\n",
        "## Others\n\n" + _figures(told_rows(results), goals=False),
        "## Each workload\n",
        *[_workload(WORKLOADS[name], found) for name, found in results.measured.items()],
    ]
    if million is not None:
        parts.append(_workload(MILLION, million.measured["M"], f"Measured on {million.date}."))
    else:
        parts.append("### M: " + MILLION.title + "\n\nNot measured here; `make bench-million` does it.\n")
    parts += [
        _HOW.format(hosts=HOSTS, rounds=rounds),
        "## The machine\n\n" + _facts(results.machine),
        "## Versions\n\n" + _facts(results.versions),
    ]
    return "\n".join(parts)


def _figures(found: Sequence[Row], *, goals: bool) -> str:
    if goals:
        header = ["", "measured", "rounds", "goal", "a failure beyond", ""]
        cells = [
            [row.name, _number(row.value, row.unit), _spread(row), _bound(row, row.goal), _bound(row, row.failure),
             _shown(row.verdict)]
            for row in found
        ]  # fmt: skip
    else:
        header = ["", "measured", "rounds"]
        cells = [[row.name, _number(row.value, row.unit), _spread(row)] for row in found if row.values]
    return _table(header, cells)


def _connections(reports: Sequence[Report]) -> str:
    counted = statistics.median(report.connections for report in reports)
    return f"{counted:,.0f}" if counted else ""


def _workload(workload: Workload, found: dict[str, Measured], note: str = "") -> str:
    columns: list[tuple[str, Callable[[Sequence[Report]], str]]] = [
        ("URLs", lambda reports: f"{reports[0].answers:,}"),
        ("URLs/s", lambda reports: f"{_median(reports, rate):,.0f}"),
        ("CPU for each, µs", lambda reports: f"{_median(reports, cpu) * 1e6:,.0f}"),
    ]
    reports = [report for measured in found.values() for report in measured.reports]
    if any(report.connections for report in reports):
        columns.append(("connections", _connections))
    if any(report.peak for report in reports):
        columns.append(("memory above idle, MiB", _memory))
    if any(report.whole for report in reports):
        columns.append(("whole process, s", _whole))
    cells = []
    for contender, measured in found.items():
        title = f"**{TITLES[contender]}**" if contender in OURS else TITLES[contender]
        if measured.reports:
            cells.append([title, *[show(measured.reports) for _, show in columns]])
        else:
            cells.append([title, measured.reason or "not measured", *[""] * (len(columns) - 1)])
    text = " ".join(part for part in (note, workload.left_out) if part)
    title = f"### {workload.name}: {workload.title}\n\n"
    return title + _table(["", *[name for name, _ in columns]], cells) + (f"\n{text}\n" if text else "")


def _memory(reports: Sequence[Report]) -> str:
    return f"{_median(reports, growth) / 2**20:,.1f}" if reports[0].peak else ""


def _whole(reports: Sequence[Report]) -> str:
    return f"{_median(reports, lambda report: report.whole):,.1f}" if reports[0].whole else ""


def _median(reports: Sequence[Report], figure: Callable[[Report], float]) -> float:
    return statistics.median(map(figure, reports))


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    rules = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rules, *[[cell.replace("|", "\\|") for cell in line] for line in cells]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _facts(found: dict[str, str]) -> str:
    return _table(["", ""], [[name, value] for name, value in found.items()]).replace("---:", "---")


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "—"
    return f"{value:.2f}{unit}" if value < 10 else f"{value:,.1f}{unit}"


def _spread(row: Row) -> str:
    if len(row.values) < 2:
        return ""
    return f"{_number(min(row.values))} to {_number(max(row.values))}"


def _bound(row: Row, bound: float | None) -> str:
    return "" if bound is None else f"{row.sense} {bound:g}{row.unit}"


def _shown(verdict: str) -> str:
    return verdict if verdict in ("reached", "not measured", "") else f"**{verdict}**"
