"""A target that is put down and taken up again."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.client import Exchange
from fetcher.engine.errors import ErrorKind
from fetcher.engine.journey import Journey
from fetcher.engine.retry import Wait
from fetcher.engine.types import Status, Target, Tried

TARGET = Target("http://a.example/", "a.example:80")
WAIT = Wait(60.0, "retry_after")


def attempt(journey: Journey, now: float, status: int = 503, seconds: float = 1.0) -> None:
    """Have an attempt fail that took so many seconds."""
    journey.begin(now)
    journey.exchange = Exchange(status=status)
    journey.spend(seconds)
    journey.end_attempt(ErrorKind.HTTP_STATUS, f"HTTP {status}", WAIT)
    journey.restart()


def later(tried: Tried, seconds: float) -> Tried:
    """Return the same as if it had been put down so many seconds earlier."""
    return msgspec.structs.replace(
        tried,
        first_epoch=tried.first_epoch - seconds,
        due_epoch=tried.due_epoch - seconds,
        put_down_epoch=tried.put_down_epoch - seconds,
    )


def again(tried: Tried | None, now: float) -> tuple[Journey, float]:
    assert tried is not None
    journey, due = Journey.take_up(msgspec.structs.replace(TARGET, tried=tried), now)
    assert due is not None
    return journey, due


class TestPutDown:
    def test_of_one_that_was_not_tried_there_is_nothing_to_keep(self):
        journey, due = Journey.take_up(TARGET, 5.0)
        assert due is None
        assert journey.put_down(6.0, None) is None

    def test_an_attempt_under_way_is_not_kept(self):
        journey = Journey(TARGET)
        journey.begin(5.0)
        assert journey.put_down(6.0, None) is None
        attempt(journey, 5.0)
        journey.begin(7.0)
        tried = journey.put_down(8.0, None)
        assert tried is not None
        assert len(tried.attempts) == 1

    @pytest.mark.parametrize(("due", "left"), [(70.0, 60.0), (None, 0.0), (3.0, 0.0)])
    def test_what_is_left_of_the_wait_is_kept(self, due, left):
        journey = Journey(TARGET)
        attempt(journey, 5.0)
        tried = journey.put_down(10.0, due)
        assert tried is not None
        assert tried.due_epoch - tried.put_down_epoch == pytest.approx(left)
        assert tried.gone == 5.0


class TestTakeUp:
    def test_goes_on_where_it_was_put_down(self):
        journey = Journey(TARGET)
        attempt(journey, 1000.0)
        put_down = later(journey.put_down(1001.0, 1061.0), 20)
        journey, due = again(put_down, 7.0)  # another process, whose clock begins elsewhere
        assert due == pytest.approx(7.0 + 40, abs=0.5)
        assert journey.first_at == pytest.approx(7.0 - 1 - 20, abs=0.5)
        attempt(journey, 48.0)
        outcome = journey.outcome(Status.FAILED, ErrorKind.HTTP_STATUS, "HTTP 503")
        assert [one.number for one in outcome.attempts] == [1, 2]
        assert outcome.started_at == put_down.first_epoch

    def test_the_time_for_which_nobody_had_it_never_counts_however_often_it_is_put_down(self):
        journey = Journey(TARGET)
        attempt(journey, 0.0)
        tried = journey.put_down(1.0, 11.0)
        for _ in range(5):
            journey, _ = again(later(tried, 3600), 0.0)
            assert journey.first_at == pytest.approx(-11.0, abs=0.5)
            tried = journey.put_down(0.0, None)

    def test_a_last_failure_that_stands_keeps_its_status(self):
        """Where its host is given up before it is sent again."""
        journey = Journey(TARGET)
        attempt(journey, 0.0, status=503)
        journey, _ = again(journey.put_down(1.0, 11.0), 0.0)
        assert journey.outcome(Status.FAILED, ErrorKind.HTTP_STATUS, "HTTP 503").http_status == 503

    @given(
        steps=st.lists(
            st.tuples(st.floats(0, 50), st.floats(0, 300), st.floats(0, 50), st.floats(0, 5000)), min_size=1, max_size=6
        )
    )
    def test_time_counts_as_if_it_had_never_been_put_down_but_for_the_time_without_anybody(self, steps):
        """Each step: held for so long before an attempt, to wait for so long, put down after so long, so long away."""
        journey, now, counted = Journey(TARGET), 0.0, 0.0
        for number, (before, wait, held, away) in enumerate(steps):
            now += before
            counted += before if number else 0.0
            attempt(journey, now)
            now += held
            due = now - held + wait
            tried = journey.put_down(now, due)
            counted += held + min(max(0.0, wait - held), away)
            now = now * 7 % 1000
            journey, again_at = again(later(tried, away), now)
            assert again_at - now == pytest.approx(max(0.0, wait - held - away), abs=0.5)
            assert journey.first_at is not None
            assert now - journey.first_at == pytest.approx(counted, abs=0.5)
        assert [one.number for one in journey.attempts] == list(range(1, len(steps) + 1))
        assert journey.first_epoch <= time.time()
