"""What a number of rounds showed, as a table, and the bound that they support."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from tests.cluster.cases import DRAIN
from tests.cluster.rounds import POLITE, Report
from tests.crash import checks

_HEAD = (
    "set-up", "what happens", "rounds", "lost", "twice", "impolite", "other",
    "again", "in flight", "pause", "done after", "messages",
)  # fmt: skip


def table(reports: Sequence[Report]) -> str:
    """Return a row for each set-up and fault, and a last one for all. Of figures the largest of any round is told."""
    rows = [_HEAD]
    for (setup, fault, real), group in groupby(sorted(reports, key=_key), key=_key):
        rows.append((setup, f"{fault}{' (real waits)' if real else ''}", *_figures(list(group))))
    rows.append(("all", "", *_figures(reports)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join("  ".join(_aligned(row, widths)).rstrip() for row in rows)


def _key(report: Report) -> tuple[str, str, bool]:
    return report.case.setup, report.case.fault, report.case.real


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    for column, (text, width) in enumerate(zip(row, widths, strict=True)):
        yield text.ljust(width) if column < 2 else text.rjust(width)


def _figures(reports: Sequence[Report]) -> tuple[str, ...]:
    found = [{violation.check for violation in report.violations} for report in reports]
    known = {checks.LOST, checks.TWICE, POLITE}
    return (
        str(len(reports)),
        *(str(sum(check in names for names in found)) for check in (checks.LOST, checks.TWICE, POLITE)),
        str(sum(bool(names - known) for names in found)),
        str(max((report.again for report in reports), default=0)),
        str(max((report.flying for report in reports), default=0)),
        _longest(report.pause for report in reports),
        _longest(report.took for report in reports),
        str(max((report.messages for report in reports), default=0)),
    )


def _longest(seconds: Iterable[float]) -> str:
    known = [value for value in seconds if not math.isnan(value)]
    return f"{max(known):.1f} s" if known else "-"


def bound(reports: Sequence[Report]) -> str:
    """Return what so many faults say about those that were not tried (the rule of three)."""
    faults = [report for report in reports if report.case.fault != DRAIN]
    if not faults:
        return "nothing happened to any cluster"
    bad = sum(any(found.check in (checks.LOST, checks.TWICE) for found in report.violations) for report in faults)
    if bad:
        return f"{bad} of {len(faults)} faults lost a target or recorded one twice"
    return (
        f"0 of {len(faults)} faults lost a target or recorded one twice: "
        f"with 95 % confidence fewer than {min(1, 3 / len(faults)):.2%} of such faults do"
    )
