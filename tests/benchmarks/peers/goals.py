"""The figures to reach, each with its goal and with what counts as a failure, and the verdict on what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.benchmarks.peers.results import Results
from tests.benchmarks.stacks.measuring import Report

Verdict = Literal["reached", "below the goal", "FAILED", "not measured", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: its value in each round, so that a ratio is one of two neighbours.

    ``failure`` is where it counts as failed, ``sense`` which side of both is good. Without a goal it is only told.
    """

    name: str
    values: Sequence[float]
    goal: float | None = None
    failure: float | None = None
    sense: Literal["at least", "at most"] = "at least"
    unit: str = ""

    @property
    def value(self) -> float | None:
        """The median."""
        return statistics.median(self.values) if self.values else None

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "not measured"
        if self.goal is None:
            return ""
        if self._holds(self.goal):
            return "reached"
        return "below the goal" if self.failure is not None and self._holds(self.failure) else "FAILED"

    def _holds(self, bound: float) -> bool:
        assert self.value is not None
        return self.value >= bound if self.sense == "at least" else self.value <= bound


Figure = Callable[[Report], float]


def rate(report: Report) -> float:
    """Answers a second."""
    return report.answers / report.seconds


def cpu(report: Report) -> float:
    """Seconds of CPU for each answer."""
    return report.cpu / report.answers


def growth(report: Report) -> float:
    """Bytes above idle at the most; no less than a page, so that a ratio can be taken."""
    return max(report.peak - report.idle, 4096)


def ratios(ours: Sequence[Report], theirs: Sequence[Report], figure: Figure = rate) -> list[float]:
    """Return one figure against another, round by round; nothing where either was not measured."""
    return [figure(a) / figure(b) for a, b in zip(ours, theirs, strict=False)]


def rows(results: Results, million: Results | None = None) -> list[Row]:
    """Return the figures that were agreed upon, in their order."""

    def against(workload: str, ours: str, theirs: str, figure: Figure = rate) -> list[float]:
        return ratios(results.reports(workload, ours), results.reports(workload, theirs), figure)

    ideal = results.ideal("C")
    return [
        Row(
            "A, transport called directly, against aiohttp + uvloop",
            against("A", "transport", "aiohttp-uvloop"), 1.5, 1.2,
        ),
        Row("A, the same against `curl -Z`", against("A", "transport", "curl"), 0.75, 0.5),
        Row(
            f"C, the same against the ideal of {ideal:,.0f}/s",
            [rate(report) / ideal for report in results.reports("C", "transport")], 0.75, 0.6,
        ),
        Row("E, the same against aiohttp + uvloop", against("E", "transport", "aiohttp-uvloop"), 1.3, 1.0),
        Row("T, the same against aiohttp + uvloop", against("T", "transport", "aiohttp-uvloop"), 1.3, 1.0),
        Row(f"T2, the same against aiohttp{_connections(results)}", against("T2", "transport", "aiohttp"), 1.1, 0.9),
        Row(
            "A fetched and saved (SQLite), against aiohttp + uvloop + the same raw writer",
            against("S", "saved", "aiohttp-saved"), 1.3, 0.8,
        ),
        Row("the same against Scrapy + SQLite", against("S", "saved", "scrapy-saved"), 25, 12),
        Row("the same against what `curl -Z` merely fetches", against("S", "saved", "curl"), 0.5, 0.3),
        Row("D against the pipeline alone (planning included)", against("D", "sqlite", "saved"), 0.7, 0.6),
        Row(
            "CPU for each URL saved, PostgreSQL against SQLite",
            against("D", "postgres", "sqlite", cpu), 1.5, 2, "at most",
        ),
        Row(
            "growth of memory above idle, C, against aiohttp",
            against("C", "transport", "aiohttp", growth), 1.3, 1.6, "at most",
        ),
        *million_rows(million or Results()),
    ]  # fmt: skip


def _connections(results: Results) -> str:
    """Say how many connections each of the two had: new ones are most of what T2 costs."""
    ours, theirs = (results.reports("T2", name) for name in ("transport", "aiohttp"))
    if not (ours and theirs):
        return ""
    counts = (round(statistics.median(report.connections for report in found)) for found in (ours, theirs))
    return " ({:,} and {:,} connections)".format(*counts)


def million_rows(million: Results) -> list[Row]:
    """Return the figures of M. How long a part of it takes says nothing of the whole."""
    two = million.reports("M", "two")
    minutes = [report.seconds / 60 for report in two if million.scale == 1]
    return [
        Row("M, a million URLs with two workers", minutes, 10, None, "at most", " min"),
        Row("M, peak memory at the end against that after a tenth", million.flatness, 1.3, None, "at most"),
        Row("M, two workers against one", ratios(two, million.reports("M", "one")), 1.6),
    ]


def told_rows(results: Results) -> list[Row]:
    """Return figures without a goal: those of the table with another part of Trawl, or another peer."""
    pairs: Mapping[str, tuple[str, str, str, Figure]] = {
        "A, Trawl's engine against aiohttp + uvloop": ("A", "engine", "aiohttp-uvloop", rate),
        "A, transport against raw pycurl": ("A", "transport", "pycurl", rate),
        "A, transport against stock httpx": ("A", "transport", "httpx", rate),
        "B, transport against aiohttp + uvloop": ("B", "transport", "aiohttp-uvloop", rate),
        "T2, transport against aiohttp + uvloop": ("T2", "transport", "aiohttp-uvloop", rate),
        "A planned, fetched and saved, against aiohttp + uvloop + raw writer": (
            "S", "planned-saved", "aiohttp-saved", rate,
        ),
        "D, into a million results against into an empty SQLite": ("D", "sqlite-million", "sqlite", rate),
        "D, into a million results against into an empty PostgreSQL": ("D", "postgres-million", "postgres", rate),
        "D, PostgreSQL against SQLite": ("D", "postgres", "sqlite", rate),
        "growth of memory above idle, C, engine against aiohttp": ("C", "engine", "aiohttp", growth),
        "growth of memory above idle, C, transport against aiohttp + uvloop": (
            "C", "transport", "aiohttp-uvloop", growth,
        ),
    }  # fmt: skip
    return [
        Row(name, ratios(results.reports(workload, ours), results.reports(workload, theirs), figure))
        for name, (workload, ours, theirs, figure) in pairs.items()
    ]
