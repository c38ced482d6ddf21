"""What prune_runs is told and tells."""

from __future__ import annotations

import argparse
from datetime import timedelta

import pytest

from fetcher.cli.pruning import age, number_of_runs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("8W", timedelta(weeks=8)),
        ("0d", timedelta()),
        ("1.5d", timedelta(hours=36)),
        ("45s", timedelta(seconds=45)),
    ],
)
def test_ages(text, value):
    assert age(text) == value


@pytest.mark.parametrize("text", ["soon", "", "30", "-3d", "1y", "1,5d", "٣d", "9999999d", "999999999w"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be an age such as 12h, 30d or 8w"):
        age(text)


@pytest.mark.parametrize("text", ["-1", "many", "", "1.5", "٣"])
def test_what_is_no_number_of_runs_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number of at least 0"):
        number_of_runs(text)
