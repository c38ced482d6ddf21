"""The page and the table on the terminal."""

from __future__ import annotations

import importlib.util

import pytest

from tests.benchmarks.peers import chart
from tests.benchmarks.peers.goals import Row
from tests.benchmarks.peers.page import render, terminal_rates, terminal_table
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.rounds import Measured
from tests.benchmarks.stacks.measuring import Report


def reports(*seconds: float) -> Measured:
    return Measured([Report(5_000, 5_000_000, each, 0.5, 2**20, 3 * 2**20, connections=100) for each in seconds])


@pytest.fixture
def results() -> Results:
    return Results(
        date="2026-02-03",
        machine={"Cores": "2"},
        versions={"nginx": "1.22.1"},
        measured={
            "A": {
                "transport": reports(0.5, 0.4, 0.6),
                "aiohttp-uvloop": reports(1.0, 1.0, 1.0),
                "scrapy": Measured([], "scrapy is not | installed"),
            }
        },
    )


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_figure_has_its_median_its_spread_its_bounds_and_its_verdict(results):
    assert line_of(render(results, None, "chart.png"), "| A, transport called directly") == (
        "| A, transport called directly, against aiohttp + uvloop | 2.00 | 1.67 to 2.50 | at least 1.5 | at least 1.2 "
        "| reached |"
    )


def test_what_was_missed_stands_out(results):
    results.measured["A"]["transport"] = reports(1.0)

    assert line_of(render(results, None, "chart.png"), "| A, transport called").endswith("| **FAILED** |")


def test_what_was_not_measured_is_said_so(results):
    assert line_of(render(results, None, "chart.png"), "| T2,").endswith("| not measured |")


def test_a_stack_has_its_rate_cpu_connections_and_memory(results):
    row = line_of(render(results, None, "chart.png"), "| **Trawl's transport**")

    assert row == "| **Trawl's transport** | 5,000 | 10,000 | 100 | 100 | 2.0 |"


def test_why_a_stack_has_no_figures_does_not_break_the_table(results):
    row = line_of(render(results, None, "chart.png"), "| Scrapy |")

    assert row == r"| Scrapy | scrapy is not \| installed |  |  |  |  |"


def test_date_machine_versions_and_chart_are_on_the_page(results):
    page = render(results, None, "chart.png")

    assert [
        part for part in ("2026-02-03", "| Cores | 2 |", "| nginx | 1.22.1 |", "](chart.png)") if part not in page
    ] == []


def test_a_quick_look_says_that_it_is_one(results):
    results.scale = 0.1

    assert "no figure to rely on" in render(results, None, "chart.png")


def test_the_million_has_its_own_date(results):
    million = Results(date="2026-02-01", measured={"M": {"two": reports(300.0)}})

    page = render(results, million, "chart.png")

    assert "Measured on 2026-02-01." in page
    assert line_of(page, "| M, a million URLs").startswith("| M, a million URLs with two workers | 5.00 min |")


def test_the_terminal_has_a_line_for_each_figure():
    lines = terminal_table([Row("first", [2.0], 1.5, 1.2), Row("second", [], 1.0)]).splitlines()

    assert [line.split() for line in lines[1:]] == [
        ["first", "2.00", "at", "least", "1.5", "at", "least", "1.2", "reached"],
        ["second", "—", "at", "least", "1", "not", "measured"],
    ]


def test_the_terminal_has_a_line_for_each_stack(results):
    lines = [line.split() for line in terminal_rates(results).splitlines()[1:]]

    assert lines[0] == ["A", "Trawl's", "transport", "10,000", "100"]
    assert lines[2][:3] == ["A", "Scrapy", "scrapy"]


def test_results_are_read_as_they_were_kept(results, tmp_path):
    results.write(tmp_path / "folder" / "results.json")

    assert Results.read(tmp_path / "folder" / "results.json") == results


def test_without_results_nothing_is_read(tmp_path):
    assert Results.read(tmp_path / "results.json") is None


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed (make bench)")
@pytest.mark.filterwarnings("default")
def test_the_chart_is_a_picture(results, tmp_path):
    chart.draw(results, tmp_path / "chart.png")

    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
