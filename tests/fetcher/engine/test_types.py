"""What was tried of a target, and how the time counts for which nobody had it."""

from __future__ import annotations

import pytest

from fetcher.engine.types import Tried

PUT_DOWN = Tried((), first_epoch=500.0, gone=10.0, due_epoch=1060.0, put_down_epoch=1000.0)


class TestTried:
    @pytest.mark.parametrize(
        ("now", "since_first", "still_to_wait"),
        [
            pytest.param(1000, 10, 60, id="put down this moment"),
            pytest.param(1020, 30, 40, id="the wait goes on meanwhile"),
            pytest.param(1060, 70, 0, id="due"),
            pytest.param(5000, 70, 0, id="what it would not have waited for does not count"),
            pytest.param(900, 10, 60, id="the clock was set back: no more to wait than there was"),
        ],
    )
    def test_counts_the_wait_and_not_the_time_after_it(self, now, since_first, still_to_wait):
        assert PUT_DOWN.since_first(now) == since_first
        assert PUT_DOWN.still_to_wait(now) == still_to_wait
