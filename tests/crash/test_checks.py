"""Each check of the harness, shown to fail where it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fetcher.models import PLACES
from tests.crash import checks
from tests.crash.script import Expected, Script
from tests.crash.snapshot import Lane, Result, Shard, Snapshot

A, B, C = "http://a/1", "http://a/2", "http://b/3"
FIRST, SECOND = 7 * PLACES, 8 * PLACES


def result(pk: int, target: int, position: int, status: str = "succeeded", **more: Any) -> Result:
    return Result(pk, target, position, status, **{"bytes": 10, "started_at": 100.0, **more})


def lane(planned: int, size: int = 0, **counts: int) -> Lane:
    return Lane(planned, {"succeeded": 0, "not_modified": 0, "failed": 0, "skipped": 0, **counts}, size)


WHOLE = Snapshot(
    run=2,
    state="completed",
    planned=True,
    duplicates=1,
    rejected=1,
    rejected_said=1,
    lanes={1: lane(2, 20, succeeded=1, failed=1), 2: lane(1, 10, succeeded=1)},
    shards={7: Shard(1, 2, [11, 12], [0, 2], done=True), 8: Shard(2, 1, [13], [3])},
    results=[result(FIRST, 11, 0), result(FIRST + 1, 12, 2, "failed"), result(SECOND, 13, 3)],
    urls={11: A, 12: B, 13: C},
)
HALF = replace(
    WHOLE,
    state="running",
    lanes={1: lane(2, 10, succeeded=1), 2: lane(1)},
    shards={7: Shard(1, 2, [11, 12], [0, 2]), 8: Shard(2, 1, [13], [3])},
    results=[result(FIRST, 11, 0)],
)
SCRIPT = Script(
    lines=[A, A, B, "no URL", C],
    expected={A: Expected("/1", 0), B: Expected("/2", 2, "failed"), C: Expected("/3", 3, requests=2)},
    duplicates=1,
    rejected=1,
)


def names(violations: list[checks.Violation]) -> set[str]:
    return {violation.check for violation in violations}


class TestAtAnyTime:
    @pytest.mark.parametrize("snapshot", [WHOLE, HALF], ids=["whole", "half"])
    def test_a_run_in_order_passes(self, snapshot):
        assert checks.at_any_time(snapshot) == []

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            pytest.param(
                {"shards": {**HALF.shards, 7: replace(HALF.shards[7], done=True)}}, checks.LOST, id="closed-shard"
            ),
            pytest.param({"state": "completed"}, checks.LOST, id="completed-run"),
            pytest.param({"results": [*HALF.results, *HALF.results]}, checks.TWICE, id="same-result"),
            pytest.param({"shards": {**HALF.shards, 8: Shard(2, 1, [11], [3])}}, checks.TWICE, id="accepted-twice"),
            pytest.param({"results": [*HALF.results, result(9 * PLACES, 14, 9)]}, checks.MISPLACED, id="unknown-shard"),
            pytest.param(
                {"results": [*HALF.results, result(FIRST + 2, 14, 9)]}, checks.MISPLACED, id="beyond-its-shard"
            ),
            pytest.param({"results": [result(FIRST, 12, 0)]}, checks.MISPLACED, id="another-target"),
            pytest.param({"results": [result(FIRST, 11, 1)]}, checks.MISPLACED, id="another-position"),
            pytest.param({"results": [result(FIRST, 11, 0, whole=False)]}, checks.MISPLACED, id="without-body"),
            pytest.param({"results": []}, checks.COUNTERS, id="counted-without-result"),
            pytest.param({"lanes": {1: lane(2), 2: lane(1)}}, checks.COUNTERS, id="result-without-count"),
            pytest.param(
                {"lanes": {1: lane(2, 10, failed=1), 2: lane(1)}}, checks.COUNTERS, id="counted-as-another-status"
            ),
            pytest.param({"lanes": {1: lane(2, 9, succeeded=1), 2: lane(1)}}, checks.COUNTERS, id="bytes"),
            pytest.param({"lanes": {1: lane(3, 10, succeeded=1), 2: lane(1)}}, checks.COUNTERS, id="planned"),
            pytest.param({"shards": {**HALF.shards, 8: Shard(2, 2, [13], [3])}}, checks.COUNTERS, id="size"),
            pytest.param({"rejected_said": 2}, checks.COUNTERS, id="rejected"),
        ],
    )
    def test_a_run_out_of_order_does_not(self, change, expected):
        assert expected in names(checks.at_any_time(replace(HALF, **change)))


class TestAtTheEnd:
    def test_a_run_as_scripted_passes(self):
        assert checks.at_the_end(WHOLE, SCRIPT) == []

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            pytest.param({"state": "interrupted"}, checks.RESUME, id="not-completed"),
            pytest.param({"planned": False}, checks.RESUME, id="not-read-to-the-end"),
            pytest.param({"results": WHOLE.results[:2]}, checks.LOST, id="missing"),
            pytest.param(
                {"results": [*WHOLE.results[:2], result(SECOND, 13, 3, "skipped")]}, checks.OUTCOME, id="status"
            ),
            pytest.param({"results": [*WHOLE.results[:2], result(SECOND, 13, 2)]}, checks.OUTCOME, id="position"),
            pytest.param({"urls": {**WHOLE.urls, 13: "http://c/"}}, checks.OUTCOME, id="not-in-the-list"),
            pytest.param({"duplicates": 2}, checks.OUTCOME, id="duplicates"),
            pytest.param({"rejected": 0}, checks.OUTCOME, id="rejected"),
        ],
    )
    def test_another_does_not(self, change, expected):
        assert expected in names(checks.at_the_end(replace(WHOLE, **change), SCRIPT))


class TestRequests:
    def test_in_flight_is_what_was_asked_for_and_not_recorded(self):
        recorded = checks.paths_of(HALF, SCRIPT)
        assert checks.in_flight(["/1", "/2", "/elsewhere"], recorded, SCRIPT) == {"/2"}

    def test_what_was_begun_after_the_kill_was_not_recorded_by_then(self):
        assert checks.paths_of(HALF, SCRIPT, until=99.0) == set()

    def test_scripted_requests_are_no_repetitions(self):
        assert checks.repeated({"/1": 1, "/2": 2, "/3": 2}, SCRIPT) == {"/2": 1}

    def test_what_was_in_flight_may_be_requested_once_more(self):
        assert checks.only_what_was_in_flight({"/2": 1}, {"/2": 1}) == []

    @pytest.mark.parametrize("again", [{"/1": 1}, {"/2": 2}], ids=["recorded", "too-often"])
    def test_nothing_else_may(self, again):
        assert names(checks.only_what_was_in_flight(again, {"/2": 1})) == {checks.REPEATED}
