"""The figures to reach and the verdicts on them."""

from __future__ import annotations

import dataclasses

import pytest

from tests.benchmarks.peers.goals import Row, cpu, growth, ratios, rows
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.rounds import Measured
from tests.benchmarks.stacks.measuring import Report


def report(seconds: float, *, answers: int = 100, cpu: float = 1.0, idle: int = 0, peak: int = 0) -> Report:
    return Report(answers, -1, seconds, cpu, idle, peak)


@pytest.mark.parametrize(
    ("values", "goal", "failure", "sense", "verdict"),
    [
        ([1.5], 1.5, 1.2, "at least", "reached"),
        ([1.49], 1.5, 1.2, "at least", "below the goal"),
        ([1.2], 1.5, 1.2, "at least", "below the goal"),
        ([1.19], 1.5, 1.2, "at least", "FAILED"),
        ([1.3], 1.3, 1.6, "at most", "reached"),
        ([1.31], 1.3, 1.6, "at most", "below the goal"),
        ([1.61], 1.3, 1.6, "at most", "FAILED"),
        ([1.59], 1.6, None, "at least", "FAILED"),
        ([1.0, 9.0, 1.6], 1.5, 1.2, "at least", "reached"),
        ([], 1.5, 1.2, "at least", "not measured"),
        ([3.0], None, None, "at least", ""),
    ],
)
def test_the_median_is_judged_by_goal_and_failure(values, goal, failure, sense, verdict):
    assert Row("a figure", values, goal, failure, sense).verdict == verdict


def test_a_ratio_is_taken_within_each_round():
    ours, theirs = [report(1), report(4)], [report(2), report(4)]

    assert ratios(ours, theirs) == [2.0, 1.0]


def test_a_ratio_counts_what_each_has_answered():
    assert ratios([report(1, answers=100)], [report(1, answers=10)]) == [10.0]


def test_cpu_is_for_each_answer():
    assert ratios([report(1, cpu=3)], [report(9, cpu=2)], cpu) == [1.5]


def test_memory_is_what_came_on_top_of_idle():
    ours, theirs = report(1, idle=50 * 2**20, peak=80 * 2**20), report(1, idle=10 * 2**20, peak=30 * 2**20)

    assert ratios([ours], [theirs], growth) == [1.5]


def test_there_is_no_ratio_to_what_was_not_measured():
    assert ratios([report(1)], []) == []


def test_the_figures_are_those_that_were_agreed_upon():
    assert [(row.goal, row.failure, row.sense) for row in rows(Results())] == [
        (1.5, 1.2, "at least"),  # A, aiohttp
        (0.75, 0.5, "at least"),  # A, curl
        (0.75, 0.6, "at least"),  # C
        (1.3, 1.0, "at least"),  # E
        (1.3, 1.0, "at least"),  # T
        (1.1, 0.9, "at least"),  # T2
        (1.3, 0.8, "at least"),  # saved, aiohttp
        (25, 12, "at least"),  # saved, Scrapy
        (0.5, 0.3, "at least"),  # saved, curl
        (0.7, 0.6, "at least"),  # D
        (1.5, 2, "at most"),  # PostgreSQL's CPU
        (1.3, 1.6, "at most"),  # memory
        (10, None, "at most"),  # M
        (1.3, None, "at most"),
        (1.6, None, "at least"),
    ]


def test_c_is_held_against_what_its_delay_allows():
    results = Results(measured={"C": {"transport": Measured([report(1.25, answers=10_000)])}})

    assert [row.value for row in rows(results) if row.name.startswith("C,")] == [0.8]


def test_the_figure_of_new_connections_says_how_many_there_were():
    ours, theirs = (dataclasses.replace(report(1), connections=count) for count in (100, 2_000))
    results = Results(measured={"T2": {"transport": Measured([ours]), "aiohttp": Measured([theirs])}})

    assert [row.name for row in rows(results) if row.values] == [
        "T2, the same against aiohttp (100 and 2,000 connections)"
    ]


def test_a_part_of_the_million_says_nothing_of_its_duration():
    million = Results(scale=0.1, measured={"M": {"two": Measured([report(1)]), "one": Measured([report(2)])}})

    measured = {row.name: row.values for row in rows(Results(), million) if row.values}

    assert measured == {"M, two workers against one": [2.0]}
