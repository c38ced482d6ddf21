"""Tables at the widths of real terminals."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from fetcher.cli.console import console_for
from fetcher.cli.runs import _COLUMNS as RUN_COLUMNS
from fetcher.cli.tables import Column, Listing
from jobs.cli.showing import _COLUMNS as JOB_COLUMNS

RUNS = [
    ("1042", "nightly-of-the-news-europe", "interrupted", "120,000", "118,211", "0", "1,200", "0", "589",
     "2026-11-28 07:00", "12 min 05 s"),
    ("9", "", "completed", "2", "2", "0", "0", "0", "0", "2026-11-01 07:00", "350 ms"),
]  # fmt: skip
JOBS = [
    ("news-of-the-evening-edition", "enabled", "120,000", "daily at 06:30 (Europe/Berlin)",
     "Sat 2026-11-28 06:30 CET", "/srv/lists/news-of-the-evening-edition.csv"),
    ("a", "paused", "2", "every 15 minutes", "", "arguments"),
]  # fmt: skip


def drawn(columns, rows, width: int) -> list[str]:
    stream = io.StringIO()
    console_for(stream, force_terminal=True, color_system=None, width=width).print(Listing(columns, rows))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize(("columns", "rows", "named"), [(RUN_COLUMNS, RUNS, 2), (JOB_COLUMNS, JOBS, 1)])
def test_number_and_name_come_first_and_are_whole_at_every_width(columns, rows, named, width):
    lines = drawn(columns, rows, width)
    assert max(map(len, lines)) <= width
    for row, line in zip(rows, lines[1:], strict=False):
        names = [cell for cell in row[:named] if cell]
        assert line.split()[: len(names)] == names
    assert "…" not in "".join(lines)


def test_runs_at_80_columns_leave_out_what_matters_least():
    assert drawn(RUN_COLUMNS, RUNS, 80) == [
        " run  label or source             state        failed  pending  when",
        "1042  nightly-of-the-news-europe  interrupted   1,200      589  2026-11-28 07:00",
        "   9                              completed         0        0  2026-11-01 07:00",
        "The terminal is too narrow for: targets, succeeded, not modified, skipped, took",
    ]


def test_runs_at_120_columns_leave_out_what_is_0_everywhere():
    lines = drawn(RUN_COLUMNS, RUNS, 120)
    assert lines[0].split() == [
        "run",
        "label",
        "or",
        "source",
        "state",
        "targets",
        "succeeded",
        "failed",
        "pending",
        "when",
        "took",
    ]
    assert lines[-1] == "The terminal is too narrow for: not modified, skipped"


def test_jobs_at_80_columns_keep_when_they_are_due():
    lines = drawn(JOB_COLUMNS, JOBS, 80)
    assert lines[0].split() == ["job", "state", "due", "next"]
    assert lines[1] == "news-of-the-evening-edition  enabled  Sat 2026-11-28 06:30 CET"
    assert lines[-1] == "The terminal is too narrow for: targets, schedule, source"


def test_nothing_is_left_out_when_everything_fits():
    assert drawn(JOB_COLUMNS, JOBS, 200)[0].split() == ["job", "state", "targets", "schedule", "due", "next", "source"]


def test_long_name_goes_on_in_the_next_line():
    lines = drawn(RUN_COLUMNS, [("7", "x" * 100, *RUNS[0][2:])], 60)
    assert "".join("".join(lines[1:]).split()).count("x") == 100


def test_cells_are_data():
    rows = [("7", "[fd00::1] :cat: [red]\x1b[2J", Text("ok"))]
    columns = [Column("run"), Column("label", folds=True), Column("state", gives_way=1)]
    assert drawn(columns, rows, 80)[1] == "7    [fd00::1] :cat: [red] [2J  ok"
