"""Targets that wait for another attempt while nobody has their lane."""

from __future__ import annotations

import msgspec
import pytest

from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Timings, Tried
from fetcher.models import Lane, Run, RunState, Waiting
from fetcher.store import prune, runs, waiting
from tests.support.stored import open_targets, outcome, plan, record

pytestmark = pytest.mark.django_db


def tried(attempts: int = 1) -> Tried:
    log = tuple(
        Attempt(
            number=number + 1,
            started_at=100.0 + number,
            elapsed=0.5,
            address="192.0.2.1:80",
            http_version="HTTP/1.1",
            http_status=503,
            error_kind=ErrorKind.HTTP_STATUS,
            error_detail="HTTP 503",
            timings=Timings(dns=0.1, total=0.5),
            waited=60.0,
            wait_reason="retry_after",
        )
        for number in range(attempts)
    )
    return Tried(log, 100.0, 0.5, 160.5, 100.5)


def rows(run: int, **options) -> list[tuple[int, int, Tried]]:
    return [(target.key.result, target.key.lane, tried(**options)) for target in open_targets(run)]


def lanes(run: int) -> list[int]:
    return list(Lane.objects.filter(run=run).values_list("id", flat=True))


class TestPutDown:
    def test_what_was_tried_comes_back_as_it_was(self):
        run = plan("http://a.example/", "http://b.example/")
        waiting.put_down(rows(run, attempts=3))
        assert waiting.of_lanes(lanes(run)) == {result: tried(3) for result, _, _ in rows(run)}

    def test_a_later_saving_replaces_an_earlier_one(self):
        run = plan("http://a.example/")
        waiting.put_down(rows(run))
        waiting.put_down(rows(run, attempts=2))
        [found] = waiting.of_lanes(lanes(run)).values()
        assert len(found.attempts) == 2

    def test_of_nothing_sends_no_statement(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            waiting.put_down([])

    def test_of_many_is_one_transaction_of_a_few_statements(self, django_assert_max_num_queries):
        run = plan(*(f"http://a.example/{number}" for number in range(450)))
        given = rows(run)
        with django_assert_max_num_queries(5):
            waiting.put_down(given)
        assert Waiting.objects.count() == 450


class TestOfLanes:
    def test_are_the_lanes_that_were_asked_for(self):
        run = plan("http://a.example/", "http://b.example/")
        waiting.put_down(rows(run))
        target = open_targets(run)[1]
        assert set(waiting.of_lanes([target.key.lane])) == {target.key.result}
        assert waiting.of_lanes([]) == {}

    def test_what_has_its_result_is_neither_returned_nor_kept(self):
        """Or the attempts of a long run would pile up, to be read again at each slice."""
        run = plan(*(f"http://a.example/{number}" for number in range(5)))
        waiting.put_down(rows(run))
        targets = open_targets(run)
        record(run, [outcome(target) for target in targets[:3]])
        left = {target.key.result for target in targets[3:]}
        assert set(waiting.of_lanes(lanes(run))) == left == set(Waiting.objects.values_list("id", flat=True))


class TestForget:
    def test_leaves_other_runs_alone(self):
        run, other = plan("http://a.example/"), plan("http://a.example/")
        waiting.put_down(rows(run) + rows(other))
        waiting.forget(run)
        assert waiting.of_lanes(lanes(run)) == {}
        assert len(waiting.of_lanes(lanes(other))) == 1

    def test_happens_when_a_run_is_over(self):
        run = plan("http://a.example/")
        waiting.put_down(rows(run))
        record(run, map(outcome, open_targets(run)))
        assert runs.finish(run) == RunState.COMPLETED
        assert not Waiting.objects.exists()

    def test_does_not_happen_when_it_is_interrupted(self):
        run = plan("http://a.example/")
        waiting.put_down(rows(run))
        assert runs.finish(run) == RunState.INTERRUPTED
        assert Waiting.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_interrupted_run_with_some_can_be_removed():
    run = plan("http://a.example/")
    waiting.put_down(rows(run))
    runs.finish(run)
    assert prune.prune_run(run, prune.Pruned())
    assert not Run.objects.exists()
    assert not Waiting.objects.exists()


def test_attempts_that_cannot_be_encoded_are_kept_with_their_times_only():
    run = plan("http://a.example/1", "http://a.example/2")
    (first, lane, bad), second = rows(run)
    log = (msgspec.structs.replace(bad.attempts[0], http_status=2**70), *bad.attempts[1:])
    waiting.put_down([(first, lane, msgspec.structs.replace(bad, attempts=log)), second])
    found = waiting.of_lanes([lane])
    assert found[second[0]] == second[2]
    assert found[first].attempts == (Attempt(1, 100.0, 0.5),)
    assert found[first].due_epoch == bad.due_epoch


def test_attempts_that_cannot_be_read_let_their_target_begin_anew():
    run = plan("http://a.example/1", "http://a.example/2")
    first, second = rows(run)
    waiting.put_down([first, second])
    Waiting.objects.filter(pk=first[0]).update(tried=b"\xc1")
    assert waiting.of_lanes([first[1]]) == {second[0]: second[2]}
