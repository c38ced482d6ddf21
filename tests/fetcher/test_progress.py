"""Counts of a run while it goes on."""

from __future__ import annotations

import time

import pytest

from fetcher import progress
from fetcher.engine.types import Attempt, Outcome, Status, Target
from fetcher.estimate import Limits, RemainingWork
from fetcher.progress import Progress, Tally
from fetcher.store.shards import Place, Previous


def outcome(
    status: Status = Status.SUCCEEDED, host: str = "a:80", elapsed: float = 1.0, body: bytes | None = b""
) -> Outcome:
    attempts = () if status is Status.SKIPPED else (Attempt(1, 0.0, elapsed),)
    target = Target(f"http://{host}/", host)
    return Outcome(target, status, 0.0, elapsed, elapsed, target.url, body=body, attempts=attempts)


def test_outcomes_are_counted_by_status_with_their_bytes() -> None:
    made = Progress()
    made.saved(
        Tally.of([outcome(body=b"12"), outcome(body=b"3"), outcome(Status.FAILED, body=None), outcome(Status.SKIPPED)])
    )

    assert (made.done, made.failed, made.bytes) == (4, 2, 3)
    assert made.statuses == {"succeeded": 2, "failed": 1, "skipped": 1}


def test_the_slowest_hosts_are_those_with_the_longest_mean() -> None:
    made = Progress()
    made.saved(
        Tally.of([outcome(host="a:80", elapsed=9), outcome(host="a:80", elapsed=1), outcome(host="b:80", elapsed=6)])
    )

    assert [(times.host, times.mean, times.longest) for times in made.slowest_hosts(5)] == [
        ("b:80", 6, 6),
        ("a:80", 5, 9),
    ]
    assert len(made.slowest_hosts(1)) == 1


def test_what_was_not_requested_says_nothing_about_its_host() -> None:
    made = Progress()
    made.saved(Tally.of([outcome(Status.SKIPPED)]))

    assert made.slowest_hosts(5) == []


def test_it_does_not_grow_with_the_number_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_HOSTS", 10)
    made = Progress()
    made.saved(Tally.of([outcome(host="slow:80", elapsed=100)]))
    made.saved(Tally.of(outcome(host=f"h{number}:80") for number in range(1000)))

    assert len(made.slowest_hosts(1000)) <= 10
    assert made.slowest_hosts(1)[0].host == "slow:80"


def test_the_time_left_is_known_once_the_list_is_read_and_something_is_done() -> None:
    made = Progress(began=time.monotonic() - 10, accepted=30)
    assert made.eta is None
    made.saved(Tally.of([outcome()] * 10))
    assert made.eta is None
    made.planned = True

    assert made.rate == pytest.approx(1, rel=0.1)
    assert made.eta == pytest.approx(20, rel=0.1)


def test_the_time_left_is_that_of_the_busiest_host_under_the_limits() -> None:
    made = Progress(began=time.monotonic() - 10, accepted=30, planned=True, work=RemainingWork(Limits(100, 8, 30.0)))
    made.work.accepted({"a:80": 20, "b:80": 10})
    made.saved(Tally.of([outcome(host="b:80", elapsed=0.0)] * 10))

    assert made.eta == pytest.approx(19 * 30)


def test_a_run_is_not_expected_to_go_faster_than_it_ever_went() -> None:
    made = Progress(began=time.monotonic() - 10, accepted=30, planned=True, work=RemainingWork(Limits(100, 8, 0)))
    made.work.accepted({"a:80": 30})
    made.saved(Tally.of([outcome(elapsed=0.0)] * 10))

    assert made.eta == pytest.approx(20, rel=0.1)


def test_what_a_304_confirms_is_counted_as_saved() -> None:
    previous = Previous(1, 1, True, b"", 700, "", "", b"", "", "")
    target = Target("http://a/", "a:80", key=Place(1, 1, 1, 0, b"", previous))
    made = Progress()
    made.saved(Tally.of([Outcome(target, Status.NOT_MODIFIED, 0.0, 1.0, 1.0, target.url, body=b"")]))

    assert (made.unchanged_bytes, made.bytes) == (700, 0)


def test_with_nothing_done_there_is_no_rate() -> None:
    assert Progress().rate == 0


def test_a_run_that_is_followed_has_what_the_database_says() -> None:
    counts = {"planned": 20, "succeeded": 3, "not_modified": 1, "failed": 2, "skipped": 0, "bytes": 70}
    made = Progress(run=1, accepted=25, work=RemainingWork(Limits(100, 8, 0)))
    made.looked(counts, 2)

    assert (made.accepted, made.done, made.failed, made.bytes) == (25, 6, 2, 70)  # the plan is newer
    assert (made.workers, made.work) == (2, None)
