"""A feed that is one slice of the work: it ends while others go on, and gives back what was not sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from fetcher.conf import fetcher_settings
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Attempt, Target, Tried
from fetcher.feed import LOOK, LaneFeed
from fetcher.models import Lane, Waiting, Worker, lane_number
from fetcher.store import leases, runs, waiting
from fetcher.store.plan import Planner
from fetcher.store.record import Recorder
from fetcher.writer import Writer
from tests.support.database_errors import busy
from tests.support.stored import entries, outcome, plan
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = FetchConfig(concurrency=4, look_ahead=10, per_host=8)
PATIENCE = 0.3


class Sliced:
    """A feed with patience, and what was taken from it."""

    def __init__(
        self, run: int, worker: int, writer: Writer, patience: float | None = PATIENCE, config: FetchConfig = CONFIG
    ) -> None:
        self.worker = worker
        self.writer = writer
        self.shares: list[int] = []
        self.taken: list[Target] = []
        self.recorder = Recorder(run, worker, fetcher_settings())
        self.feed = LaneFeed(
            run, worker, config, writer, runs.variant_of(config), sharers=self.shares.append, patience=patience
        )

    async def take(self, *, settle: bool = False) -> None:
        async for target in self.feed:
            self.taken.append(target)
            if settle:
                await self.save(target)

    async def save(self, target: Target) -> None:
        self.feed.settle(outcome(target))
        batch = [outcome(target)]
        await self.writer(self.recorder.record, batch, done=self.feed.finished_shards(batch))
        await self.writer(self.feed.recorded, batch)

    async def stop_taking(self, taking: asyncio.Task[None]) -> None:
        taking.cancel()
        await asyncio.wait([taking])


def slice_of(
    run: int,
    use: Callable[[Sliced], Awaitable[None]],
    patience: float | None = PATIENCE,
    config: FetchConfig = CONFIG,
) -> Sliced:
    async def main() -> Sliced:
        async with Writer() as writer, asyncio.timeout(20):
            worker = await writer(leases.register_worker, run)
            sliced = Sliced(run, worker, writer, patience, config)
            await use(sliced)
            return sliced

    return asyncio.run(main())


def urls(host: str, count: int) -> list[str]:
    return [f"http://{host}.example/{number}" for number in range(count)]


def lane_of(host: str) -> Lane:
    return Lane.objects.get(number=lane_number(f"{host}.example:80"))


def give(host: str, worker: int | None) -> None:
    """Have a worker hold the lane of a host, or nobody."""
    Lane.objects.filter(number=lane_number(f"{host}.example:80")).update(worker=worker)


def tried(attempts: int = 1) -> Tried:
    log = tuple(Attempt(number + 1, 1.0, 0.1, http_status=503, waited=60.0) for number in range(attempts))
    return Tried(log, 1.0, 0.1, time.time() + 60, time.time())


class TestPatience:
    def test_ends_when_there_was_nothing_for_a_while_because_others_have_the_lanes(self):
        run = plan(*urls("a", 3), *urls("b", 3))
        other = leases.register_worker(run)
        give("a", other)

        async def use(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            began = time.monotonic()
            await sliced.take(settle=True)
            assert time.monotonic() - began >= PATIENCE

        sliced = slice_of(run, use)
        assert {target.host for target in sliced.taken} == {"b.example:80"}

    def test_without_it_lanes_of_others_are_waited_for(self):
        run = plan(*urls("a", 3))
        other = leases.register_worker(run)
        give("a", other)

        async def use(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            taking = asyncio.ensure_future(sliced.take(settle=True))
            await asyncio.sleep(2 * PATIENCE)
            assert not taking.done()
            await sliced.writer(leases.let_go, other)
            await taking

        assert len(slice_of(run, use, patience=None).taken) == 3

    def test_does_not_run_out_while_something_is_on_its_way(self):
        """To the engine, where it may wait for long, or to the database."""
        run = plan(*urls("a", 1))

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: bool(sliced.taken))
            await asyncio.sleep(2 * PATIENCE + LOOK)
            assert not taking.done()
            await sliced.save(sliced.taken[0])
            await taking

        slice_of(run, use)

    def test_runs_out_although_more_may_be_planned(self):
        """The reader of a slow source has others woken; until then this one is of no use."""
        run = plan(*urls("a", 1))
        slice_of(run, lambda sliced: sliced.take(settle=True))

    def test_begins_anew_with_what_was_planned_meanwhile(self):
        run = plan(*urls("a", 1))
        planner = Planner(run)
        planner.load()

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take(settle=True))
            await until(lambda: bool(sliced.taken))
            await asyncio.sleep(PATIENCE / 3)
            await sliced.writer(planner.add, entries(*urls("c", 2)))
            sliced.feed.planned()
            await taking

        assert len(slice_of(run, use).taken) == 3

    def test_holds_for_lanes_that_are_its_part_until_their_holder_is_through_with_them(self):
        run = plan(*(url for host in "abc" for url in urls(host, 1)))
        other = leases.register_worker(run)
        for host in "abc":
            give(host, other)

        async def use(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            taking = asyncio.ensure_future(sliced.take(settle=True))
            await asyncio.sleep(2 * PATIENCE + LOOK)
            assert not taking.done()
            for host in "ab":
                await sliced.writer(give, host, None)
            await taking

        assert {target.host for target in slice_of(run, use).taken} == {"a.example:80", "b.example:80"}

    def test_holds_while_it_is_not_known_whether_the_holder_of_other_lanes_is_gone(self, monkeypatch):
        """His lease is over; he is watched for a while, and somebody must be there to take his lanes."""
        monkeypatch.setattr(leases, "OBSERVED", 3 * PATIENCE)
        run = plan(*urls("a", 2))
        other = leases.register_worker(run)
        give("a", other)
        Worker.objects.filter(pk=other).update(hostname="elsewhere", expires_at=timezone.now() - timedelta(seconds=1))

        async def use(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            await sliced.take(settle=True)

        assert len(slice_of(run, use).taken) == 2


class TestSharers:
    @pytest.mark.parametrize(
        ("fellows", "held", "sharers"),
        [
            pytest.param(0, 0, 1, id="alone"),
            pytest.param(1, 1, 2, id="one other with a lane"),
            pytest.param(2, 2, 3, id="two others"),
            pytest.param(7, 1, 2, id="more workers than lanes: those without send nothing"),
            pytest.param(7, 0, 1, id="nothing is left for them"),
        ],
    )
    def test_are_said_before_the_first_target_is_given(self, fellows, held, sharers):
        hosts = "abc"[: held + 1]
        run = plan(*(url for host in hosts for url in urls(host, 1)))
        others = [leases.register_worker(run) for _ in range(fellows)]
        for host, other in zip(hosts[1:], others, strict=False):
            give(host, other)

        async def use(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            await anext(aiter(sliced.feed))
            assert sliced.shares[-1] == sharers

        slice_of(run, use)

    def test_are_said_again_when_others_come_and_go(self):
        run = plan(*(url for host in "abcdef" for url in urls(host, 1)))

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: sliced.shares[-1:] == [1], 10)
            other = await sliced.writer(leases.register_worker, run)
            await sliced.writer(give, "a", other)
            await until(lambda: sliced.shares[-1:] == [2], 10)
            await sliced.writer(leases.let_go, other)
            await until(lambda: sliced.shares[-1:] == [1], 10)
            await sliced.stop_taking(taking)

        slice_of(run, use)


class TestLeft:
    """What the engine gives back when it is stopped."""

    def test_lanes_of_which_nothing_is_under_way_are_given_up_at_once_and_the_others_when_they_are_through(self):
        run = plan(*urls("a", 2), *urls("b", 2))

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: len(sliced.taken) == 4)
            await sliced.stop_taking(taking)
            in_flight = next(target for target in sliced.taken if target.host == "a.example:80")
            for target in sliced.taken:
                if target is not in_flight:
                    sliced.feed.left(target, None)
            await sliced.writer(sliced.feed.release_idle)
            assert await sliced.writer(lambda: (lane_of("a").worker_id, lane_of("b").worker_id)) == (
                sliced.worker,
                None,
            )
            await sliced.save(in_flight)
            await sliced.writer(sliced.feed.release_idle)
            assert await sliced.writer(lambda: lane_of("a").worker_id) is None

        slice_of(run, use)

    def test_the_next_slice_is_given_it_with_what_was_tried_of_it(self):
        run = plan(*urls("a", 3))

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: len(sliced.taken) == 3)
            await sliced.stop_taking(taking)
            for number, target in enumerate(sliced.taken):
                sliced.feed.left(target, tried(number) if number else None)
            await sliced.writer(sliced.feed.release_idle)

        first = slice_of(run, use)
        leases.let_go(first.worker)

        async def go_on(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            await sliced.take(settle=True)

        second = slice_of(run, go_on)
        assert [target.url for target in second.taken] == [target.url for target in first.taken]
        assert [0 if target.tried is None else len(target.tried.attempts) for target in second.taken] == [0, 1, 2]
        assert [msgspec.structs.replace(target, tried=None) for target in second.taken] == first.taken

    def test_is_saved_once_although_the_answer_was_lost(self, monkeypatch):
        run = plan(*urls("a", 2))
        put_down, calls = waiting.put_down, []

        def fails_first(rows: list[tuple[int, int, Tried]]) -> None:
            calls.append(len(rows))
            if len(calls) == 1:
                raise busy()
            put_down(rows)

        monkeypatch.setattr(waiting, "put_down", fails_first)

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: len(sliced.taken) == 2)
            await sliced.stop_taking(taking)
            for target in sliced.taken:
                sliced.feed.left(target, tried())
            await sliced.writer(sliced.feed.release_idle)
            await sliced.writer(sliced.feed.release_idle)

        slice_of(run, use)
        assert calls == [2, 2, 0]
        assert Waiting.objects.count() == 2

    def test_nothing_is_saved_of_a_lane_that_another_has(self):
        run = plan(*urls("a", 1), *urls("b", 1))

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: len(sliced.taken) == 2)
            other = await sliced.writer(leases.register_worker, run)
            await sliced.writer(give, "a", other)
            lost = next(target for target in sliced.taken if target.host == "a.example:80")
            await sliced.stop_taking(taking)
            sliced.feed.drop([], [lost.key.lane])
            for target in sliced.taken:
                sliced.feed.left(target, tried())
            await sliced.writer(sliced.feed.release_idle)
            assert await sliced.writer(lambda: lane_of("a").worker_id) == other

        slice_of(run, use)
        assert list(Waiting.objects.values_list("lane", flat=True)) == [lane_of("b").pk]


class TestTheHostDelay:
    """It is kept from one holder of a lane to the next."""

    SLOW = FetchConfig(concurrency=4, look_ahead=10, per_host=8, host_delay=1.5)

    def take_first(self, run: int) -> float:
        """Take a slice with one target, whose request was just answered; return when that was."""

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: bool(sliced.taken))
            await sliced.stop_taking(taking)
            await sliced.save(sliced.taken[0])
            for target in sliced.taken[1:]:
                sliced.feed.left(target, None)
            await sliced.writer(sliced.feed.release_idle)

        leases.let_go(slice_of(run, use, config=self.SLOW).worker)
        return time.monotonic()

    def first_of_next(self, run: int, config: FetchConfig) -> float:
        async def use(sliced: Sliced) -> None:
            sliced.feed.end_of_plan()
            await anext(aiter(sliced.feed))

        leases.let_go(slice_of(run, use, config=config).worker)
        return time.monotonic()

    def test_begins_where_the_holder_before_ended(self):
        run = plan(*urls("a", 5))
        ended = self.take_first(run)
        assert self.first_of_next(run, self.SLOW) - ended >= 1.2

    def test_of_none_is_not_waited_for(self):
        run = plan(*urls("a", 5))
        self.take_first(run)
        Lane.objects.update(asked_at=timezone.now() + timedelta(hours=1))
        began = time.monotonic()
        assert self.first_of_next(run, CONFIG) - began < 1.5

    def test_is_no_longer_than_it_is_although_a_clock_was_set(self):
        run = plan(*urls("a", 5))
        Lane.objects.update(asked_at=timezone.now() + timedelta(hours=1))
        self.first_of_next(run, self.SLOW)

    def test_is_not_begun_anew_by_who_sent_nothing(self):
        """Or a delay that is longer than a slice would never end."""
        run = plan(*urls("a", 5))

        async def use(sliced: Sliced) -> None:
            taking = asyncio.ensure_future(sliced.take())
            await until(lambda: bool(sliced.taken))
            await sliced.stop_taking(taking)
            for target in sliced.taken:
                sliced.feed.left(target, None)
            await sliced.writer(sliced.feed.release_idle)

        slice_of(run, use, config=self.SLOW)
        assert Lane.objects.get().asked_at is None
