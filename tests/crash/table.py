"""What a number of runs showed, as a table, and the bound that it supports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from tests.crash import checks
from tests.crash.points import ALONE, FIRST, HELPER, RESUMED
from tests.crash.runs import TEAM, Report

_HEAD = ("database", "who", "where", "runs", "lost", "twice", "other", "again", "in flight", "resumed")
_WHO = {
    ALONE: "the command alone",
    FIRST: f"the command of {TEAM}",
    HELPER: f"one worker of {TEAM}",
    RESUMED: "a command that resumes",
}


def table(reports: Sequence[Report]) -> str:
    """Return a row for each database, victim and point, and a last one for all.

    ``again`` and ``in flight`` are the most requests of any one run.
    """
    rows = [_HEAD]
    for (kind, who, where), group in groupby(sorted(reports, key=_key), key=_key):
        rows.append((kind, _WHO[who], where, *_figures(list(group))))
    rows.append(("all", "", "", *_figures(reports)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join("  ".join(_aligned(row, widths)).rstrip() for row in rows)


def _key(report: Report) -> tuple[str, str, str]:
    return report.case.kind, report.case.who, report.case.where


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    for column, (text, width) in enumerate(zip(row, widths, strict=True)):
        yield text.ljust(width) if column < 3 else text.rjust(width)


def _figures(reports: Sequence[Report]) -> tuple[str, ...]:
    found = [{violation.check for violation in report.violations} for report in reports]
    figures = (
        len(reports),
        sum(checks.LOST in names for names in found),
        sum(checks.TWICE in names for names in found),
        sum(bool(names - {checks.LOST, checks.TWICE}) for names in found),
        max((report.again for report in reports), default=0),
        max((report.flying for report in reports), default=0),
        sum(report.resumed for report in reports),
    )
    return tuple(map(str, figures))


def bound(reports: Sequence[Report]) -> str:
    """Return what so many kills say about those that were not tried (the rule of three)."""
    lost = sum(any(found.check == checks.LOST for found in report.violations) for report in reports)
    twice = sum(any(found.check == checks.TWICE for found in report.violations) for report in reports)
    if lost or twice:
        return f"{lost} of {len(reports)} kills lost a target, {twice} recorded one twice"
    return (
        f"0 of {len(reports)} kills lost a target or recorded one twice: "
        f"with 95 % confidence fewer than {min(1, 3 / len(reports)):.2%} of such kills do"
    )
