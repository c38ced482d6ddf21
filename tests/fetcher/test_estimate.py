"""The model of how long a list takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher import estimate
from fetcher.engine.config import FetchConfig
from fetcher.estimate import Limits, RemainingWork

LIMITS = Limits(concurrency=100, per_host=8, host_delay=0)


class TestLimits:
    def test_are_those_of_the_configuration(self):
        config = FetchConfig(concurrency=3, per_host=2, host_delay=0.5)
        assert Limits.of(config) == Limits(concurrency=3, per_host=2, host_delay=0.5)

    @pytest.mark.parametrize(
        ("limits", "targets", "each", "seconds"),
        [
            (LIMITS, 0, 1.0, 0.0),
            (LIMITS, 1, 1.0, 1.0),
            (LIMITS, 8, 1.0, 1.0),
            (LIMITS, 800, 1.0, 100.0),
            (Limits(4, 8, 0), 800, 1.0, 200.0),
            (Limits(100, 8, 1), 101, 0.0, 100.0),
            (Limits(100, 8, 1), 101, 0.5, 100.5),
            (Limits(100, 1, 1), 100, 2.0, 200.0),
        ],
    )
    def test_bound_one_host(self, limits, targets, each, seconds):
        assert limits.host_seconds(targets, each) == pytest.approx(seconds)

    @given(st.integers(0, 10**6), st.integers(0, 1000), st.floats(0, 100))
    def test_more_targets_never_take_less(self, targets, more, each):
        assert LIMITS.host_seconds(targets + more, each) >= LIMITS.host_seconds(targets, each)

    def test_a_run_takes_its_busiest_host_or_all_its_work(self):
        assert LIMITS.run_seconds(5.0, 100.0) == 5.0
        assert LIMITS.run_seconds(0.5, 100.0) == 1.0


class TestRemainingWork:
    def test_is_unknown_before_the_first_answer(self):
        work = RemainingWork(LIMITS)
        work.accepted({"a:80": 5})
        assert work.seconds_left() is None

    def test_is_that_of_the_busiest_host(self):
        work = RemainingWork(Limits(100, 8, 1))
        work.accepted({"busy:80": 101, "idle:80": 10})
        for _ in range(10):
            work.done("idle:80", 0.0)
        assert work.seconds_left() == pytest.approx(100)

    def test_takes_each_host_by_its_own_answers(self):
        work = RemainingWork(Limits(100, 1, 0))
        work.accepted({"slow:80": 11, "fast:80": 101})
        work.done("slow:80", 2.0)
        work.done("fast:80", 0.1)
        assert work.seconds_left() == pytest.approx(20)

    def test_ends_at_nothing(self):
        work = RemainingWork(LIMITS)
        work.accepted({"a:80": 1})
        work.done("a:80", 1.0)
        assert work.seconds_left() == 0

    def test_does_not_grow_with_the_hosts_and_forgets_no_work(self, monkeypatch):
        monkeypatch.setattr(estimate, "_HOSTS", 10)
        work = RemainingWork(Limits(1, 1, 0))
        work.accepted({"busy:80": 50})
        for number in range(100):
            work.accepted({f"h{number}:80": 1})
        assert len(work._hosts) <= 21
        work.done("busy:80", 1.0)
        assert work.seconds_left() == pytest.approx(149)
