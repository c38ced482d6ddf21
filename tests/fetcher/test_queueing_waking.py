"""Whom the planning of a list wakes, and when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from fetcher import queueing
from fetcher.engine.config import FetchConfig
from fetcher.listener import Listener
from fetcher.models import Run, RunState, Shard, Worker
from fetcher.options import RunOptions
from fetcher.queueing import queue_list, queue_prepared
from fetcher.sources import Entry
from fetcher.store import cluster, leases
from fetcher.store.prepared import create_prepared
from tests.support.database_errors import busy
from tests.support.recording import RecordingDispatcher
from tests.support.stored import entries, open_targets, outcome, plan, record
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = FetchConfig()


def queue(source: Iterator[Entry] | list[Entry], dispatcher: RecordingDispatcher, listener: Listener | None = None):
    return asyncio.run(queue_list(source, CONFIG, dispatcher=dispatcher, listener=listener))


def stepwise(dispatcher: RecordingDispatcher, *steps: tuple[int, Callable[[], bool]]) -> Iterator[Entry]:
    """Give so many entries, and go on once a condition holds."""
    number = 0
    for count, condition in steps:
        yield from entries(*(f"http://h{number + one}.example/" for one in range(count)))
        number += count
        for _ in range(2000):
            if condition():
                break
            threading.Event().wait(0.005)
        else:
            raise AssertionError(f"after {number} entries {len(dispatcher.woken)} were woken")


class TestPlanning:
    def test_wakes_one_at_the_first_target_and_more_as_the_list_grows(self, monkeypatch, settings):
        monkeypatch.setattr(queueing, "TARGETS_A_WORKER", 10)
        settings.FETCHER_RUN_WORKERS = 3
        dispatcher = RecordingDispatcher()
        woken = dispatcher.woken
        source = stepwise(
            dispatcher,
            (1, lambda: len(woken) == 1),
            (8, lambda: True),
            (1, lambda: len(woken) == 2),
            (50, lambda: len(woken) == 3),
        )
        assert queue(source, dispatcher) == RunState.PENDING
        assert dispatcher.woken == [Run.objects.get().pk] * 3

    def test_wakes_nobody_for_nothing(self):
        dispatcher = RecordingDispatcher()
        assert queue([], dispatcher) == RunState.COMPLETED
        assert dispatcher.woken == []

    def test_wakes_another_where_those_that_were_woken_have_gone_although_the_list_is_silent(self, monkeypatch):
        """One comes, fetches what there is and goes; then a line is read, and none for a long time."""
        monkeypatch.setattr(queueing, "_AGAIN", 0.2)
        dispatcher = RecordingDispatcher()
        source = stepwise(
            dispatcher,
            (1, lambda: len(dispatcher.woken) >= 1),
            (1, lambda: len(dispatcher.woken) >= 2),
        )
        queue(source, dispatcher)

    def test_wakes_nobody_again_while_somebody_is_there(self, monkeypatch):
        monkeypatch.setattr(queueing, "_AGAIN", 0.05)

        def come() -> None:
            leases.register_worker(Run.objects.get().pk)

        dispatcher = RecordingDispatcher(at_wake=come)
        looked: list[int] = []

        def many_looks() -> bool:
            looked.append(len(dispatcher.woken))
            return len(looked) > 100

        queue(stepwise(dispatcher, (2, lambda: len(dispatcher.woken) == 1), (2, many_looks)), dispatcher)
        assert len(dispatcher.woken) == 1
        assert Worker.objects.count() == 1

    def test_goes_on_although_the_queue_s_database_is_away(self):
        heard: list[str] = []
        dispatcher = RecordingDispatcher(error=busy())
        assert queue(entries("http://a.example/"), dispatcher, Listener(message=heard.append)) == RunState.PENDING
        assert len(heard) == 1
        assert "the run stays with the cluster" in heard[0]
        assert Run.objects.get().planned_at is not None

    def test_lets_the_cluster_complete_what_is_fetched_before_it_ends(self):
        """The last worker is gone before the end of the list is known; then the planning ends the run."""
        fetched = threading.Event()

        def fetch_all() -> None:
            run = Run.objects.get().pk
            record(run, map(outcome, open_targets(run)))
            fetched.set()

        dispatcher = RecordingDispatcher(at_wake=fetch_all)
        assert queue(stepwise(dispatcher, (3, fetched.is_set)), dispatcher) == RunState.COMPLETED
        assert Run.objects.get().woken_at is None


class TestAPreparedRun:
    def test_is_told_of_at_once_with_as_many_workers_as_it_is_worth(self, monkeypatch):
        monkeypatch.setattr(queueing, "TARGETS_A_WORKER", 2)
        shards = Shard.objects.filter(run=plan(*(f"http://h{number}.example/" for number in range(5))))
        dispatcher = RecordingDispatcher()
        state = asyncio.run(
            queue_prepared(
                lambda: create_prepared(_annotated(shards), CONFIG, RunOptions()),
                CONFIG,
                RunOptions(),
                dispatcher=dispatcher,
            )
        )
        run = Run.objects.latest("id")
        assert (state, run.planned_at is not None, run.woken_at is not None) == (RunState.PENDING, True, True)
        assert dispatcher.woken == [run.pk] * 3
        assert cluster.begin(run.pk, 1) is not None

    def test_of_which_nothing_is_left_after_an_error_wakes_nobody(self):
        def create() -> int:
            raise ValueError("no such job")

        dispatcher = RecordingDispatcher()
        with pytest.raises(ValueError, match="no such job"):
            asyncio.run(queue_prepared(create, CONFIG, RunOptions(), dispatcher=dispatcher))
        assert not Run.objects.exists()
        assert not Worker.objects.exists()
        assert dispatcher.woken == []


def _annotated(shards):
    from django.db.models import F

    return shards.annotate(number=F("lane__number"), part=F("lane__part"))


def test_a_reader_that_is_killed_leaves_what_was_accepted_to_the_cluster():
    """Cancelled, as by a signal: the run is the cluster's, and its source is read by nobody."""
    dispatcher, listener = RecordingDispatcher(), Listener()
    more = threading.Event()

    def source() -> Iterator[Entry]:
        yield from entries("http://a.example/", "http://b.example/")
        more.wait(20)

    async def main() -> None:
        task = asyncio.ensure_future(queue_list(source(), CONFIG, dispatcher=dispatcher, listener=listener))
        await until(lambda: bool(dispatcher.woken), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(main())
    finally:
        more.set()
    row = Run.objects.get()
    assert (row.state, row.planner, row.planned_at) == (RunState.PENDING, None, None)
    assert cluster.begin(row.pk, 1) is not None
