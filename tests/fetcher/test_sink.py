"""Outcomes on their way into the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from fetcher.bodies import read_body
from fetcher.conf import fetcher_settings
from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Target
from fetcher.feed import LaneFeed
from fetcher.models import Body, Lane, Result
from fetcher.sink import Sink
from fetcher.store import leases, runs
from fetcher.store.record import Recorder
from fetcher.writer import Writer
from tests.support.descriptors import open_files, spilled
from tests.support.outages import locked
from tests.support.stored import outcome, plan

CONFIG = FetchConfig()

pytestmark = pytest.mark.django_db(transaction=True)


class Saved:
    """Notes what it is told, once it is let."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.done = 0
        self.begun = threading.Event()
        self.let = threading.Event()
        self.let.set()

    def __call__(self, ids, tally) -> None:
        self.begun.set()
        self.let.wait(10)
        self.ids += ids
        self.done += sum(tally.statuses.values())


def sinking(
    run: int,
    use: Callable[[Sink, list[Target], Writer, int], Awaitable[None]],
    saved: Saved,
    recorder: type[Recorder] = Recorder,
) -> None:
    """Have a sink used, with the targets that its feed gave."""

    async def main() -> None:
        async with Writer() as writer, asyncio.timeout(20):
            worker = await writer(leases.register_worker, run)
            feed = LaneFeed(run, worker, CONFIG, writer, runs.variant_of(CONFIG))
            feed.end_of_plan()
            targets = [target async for target in feed]
            sink = Sink(recorder(run, worker, fetcher_settings()), feed, writer, DiskWatch([], 0), saved)
            await use(sink, targets, writer, worker)

    asyncio.run(main())


def test_what_another_worker_has_recorded_meanwhile_is_not_told_a_second_time():
    run, saved, other = plan("http://a.example/1", "http://a.example/2"), Saved(), leases.register_worker()

    async def use(sink: Sink, targets: list[Target], writer: Writer, worker: int) -> None:
        def take_over() -> None:
            Lane.objects.update(worker=other)
            Recorder(run, other, fetcher_settings()).record([outcome(targets[0])])
            leases.let_go(other)
            leases.lease_lanes(run, worker)

        await writer(take_over)
        async with sink:
            for target in targets:
                await sink.add(outcome(target))

    sinking(run, use, saved)
    assert saved.done == len(saved.ids) == 1
    assert Result.objects.count() == 2


def test_a_cancellation_waits_for_what_was_taken():
    run, saved = plan("http://a.example/1", "http://a.example/2"), Saved()
    saved.let.clear()

    async def use(sink: Sink, targets: list[Target], writer: Writer, worker: int) -> None:
        async def take() -> None:
            async with sink:
                await sink.add(outcome(targets[0]))
                await asyncio.to_thread(saved.begun.wait)
                await sink.add(outcome(targets[1]))

        taking = asyncio.ensure_future(take())
        await asyncio.to_thread(saved.begun.wait)
        await asyncio.sleep(0.05)  # the block is left
        taking.cancel()
        asyncio.get_running_loop().call_later(0.05, saved.let.set)
        with pytest.raises(asyncio.CancelledError):
            await taking
        await writer(leases.let_go, worker)

    sinking(run, use, saved)
    assert Result.objects.count() == 2


class TestSpilledBodies:
    def test_are_closed_once_they_are_recorded(self, tmp_path):
        run, saved = plan("http://a.example/1", "http://a.example/2"), Saved()
        content = b"line\n" * 2**18

        async def use(sink: Sink, targets: list[Target], writer: Writer, worker: int) -> None:
            async with sink:
                for target in targets:
                    await sink.add(outcome(target, body=spilled(tmp_path, content)))
            assert open_files(tmp_path) == []
            await writer(leases.let_go, worker)

        sinking(run, use, saved)
        assert [result.bytes for result in Result.objects.all()] == [len(content)] * 2
        assert read_body(Body.objects.get()) == content

    def test_are_closed_where_their_lane_was_lost(self, tmp_path):
        run, saved, other = plan("http://a.example/1"), Saved(), leases.register_worker()

        async def use(sink: Sink, targets: list[Target], writer: Writer, worker: int) -> None:
            await writer(Lane.objects.update, worker=other)
            async with sink:
                await sink.add(outcome(targets[0], body=spilled(tmp_path, b"content")))
            assert open_files(tmp_path) == []

        sinking(run, use, saved)
        assert not Result.objects.exists()

    def test_stay_open_while_the_database_is_away(self, tmp_path):
        """What failed is tried again with the same bodies."""
        run, saved = plan("http://a.example/1"), Saved()

        class OnceAway(Recorder):
            away = iter([True, False])

            def record(self, outcomes, *, done=()):
                if next(self.away):
                    raise locked()
                return super().record(outcomes, done=done)

        async def use(sink: Sink, targets: list[Target], writer: Writer, worker: int) -> None:
            async with sink:
                await sink.add(outcome(targets[0], body=spilled(tmp_path, b"content")))
            assert open_files(tmp_path) == []
            await writer(leases.let_go, worker)

        sinking(run, use, saved, recorder=OnceAway)
        assert read_body(Body.objects.get()) == b"content"
