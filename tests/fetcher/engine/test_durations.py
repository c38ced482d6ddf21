"""Durations as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.durations import read_duration, write_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30), (" 2 ", 2), ("1.5", 1.5), ("1e1", 10), ("-1", -1), ("0", 0), ("500ms", 0.5), ("5s", 5),
        ("5S", 5), ("1.5h", 5400), ("5m", 300), ("1h", 3600), ("2d", 172_800), ("1w", 604_800), ("1h30m", 5400),
        (" 1h30m ", 5400), ("100ms", 0.1), ("0s", 0),
    ],
)  # fmt: skip
def test_read_duration_returns_seconds(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "soon", "nan", "inf", "1e999", "1,5", "-5s", "5 minutes", "1y", "5m3", "h", "1 s"]
)
def test_read_duration_names_the_value_and_gives_an_example_when_unreadable(text):
    with pytest.raises(ValueError, match=r"^must be a duration such as 500ms, 30s, 5m or 1h, not ") as caught:
        read_duration(text)
    assert str(caught.value).endswith(f"not {text!r}")


def test_read_duration_shortens_a_long_value():
    with pytest.raises(ValueError, match="must be a duration") as caught:
        read_duration("1h" * 1000)
    assert len(str(caught.value)) < 200


def test_read_duration_refuses_a_number_without_unit_when_one_is_needed():
    with pytest.raises(ValueError, match="must be an age such as 30d, not '30'"):
        read_duration("30", "an age such as 30d", needs_unit=True)
    assert read_duration("30d", needs_unit=True) == 30 * 86_400


@given(st.floats(min_value=0.0001, max_value=900_000))
def test_write_duration_is_read_back(seconds):
    assert read_duration(write_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


@given(st.text(max_size=40))
def test_read_duration_raises_nothing_but_value_error(text):
    with contextlib.suppress(ValueError):
        read_duration(text)
