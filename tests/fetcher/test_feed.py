"""From leased lanes to the engine."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fetcher.conf import fetcher_settings
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Outcome, Target
from fetcher.feed import LOOK, LaneFeed
from fetcher.models import Lane, Result, Shard, lane_number
from fetcher.store import leases, runs
from fetcher.store.plan import Planner
from fetcher.store.record import LaneLost, Recorder
from fetcher.writer import Writer
from tests.support.database_errors import busy
from tests.support.stored import entries, open_targets, outcome, plan, record
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = FetchConfig(concurrency=4, look_ahead=10, per_host=8)


def feeding(run: int, use: Callable[[LaneFeed, Writer], Awaitable[None]], config: FetchConfig = CONFIG) -> None:
    async def main() -> None:
        async with Writer() as writer:
            worker = await writer(leases.register_worker)
            await use(LaneFeed(run, worker, config, writer, runs.variant_of(config)), writer)

    asyncio.run(main())


def working(run: int, use: Callable[[LaneFeed, Writer, int], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Writer() as writer:
            worker = await writer(leases.register_worker, run)
            async with asyncio.timeout(20):
                await use(LaneFeed(run, worker, CONFIG, writer, runs.variant_of(CONFIG)), writer, worker)

    asyncio.run(main())


def ended(outcomes: list[Target]) -> list[Outcome]:
    return [outcome(target) for target in outcomes]


def urls(host: str, count: int) -> list[str]:
    return [f"http://{host}.example/{number}" for number in range(count)]


class TestLaneFeed:
    def test_gives_each_open_target_once_and_ends(self):
        wanted = [*urls("a", 700), *urls("b", 3)]
        run, taken = plan(*wanted), []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            feed.end_of_plan()
            async for target in feed:
                taken.append(target)
                feed.settle(outcome(target))

        feeding(run, use)
        assert sorted(target.url for target in taken) == sorted(wanted)
        assert [t.key.position for t in taken if t.host == "a.example:80"] == list(range(700))

    def test_leaves_out_what_was_recorded_before(self):
        run, taken = plan(*urls("a", 10)), []
        record(run, ended(open_targets(run)[:9]))

        async def use(feed: LaneFeed, writer: Writer) -> None:
            feed.end_of_plan()
            taken.extend([target async for target in feed])

        feeding(run, use)
        assert [target.key.position for target in taken] == [9]

    def test_takes_turns_over_the_lanes(self):
        run, taken = plan(*urls("a", 50), *urls("b", 50), *urls("c", 50)), []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            feed.end_of_plan()
            async for target in feed:
                taken.append(target.host)
                feed.settle(outcome(target))

        feeding(run, use)
        assert set(Counter(taken[:30]).values()) == {10}

    @pytest.mark.parametrize(("lanes", "most"), [(1, 16), (3, 10), (7, 5), (40, 1)])
    def test_gives_one_lane_no_more_than_its_share_of_the_look_ahead(self, lanes, most):
        run, taken = plan(*(url for lane in range(lanes) for url in urls(f"h{lane}", 20))), Counter()

        async def use(feed: LaneFeed, writer: Writer) -> None:
            async def take() -> None:
                async for target in feed:
                    taken[target.key.lane] += 1

            feed.end_of_plan()
            taking = asyncio.ensure_future(take())
            await until(lambda: taken.total() == min(lanes * most, 40), 10)
            await asyncio.sleep(0.1)
            taking.cancel()
            await asyncio.wait([taking])

        feeding(run, use)
        assert set(taken.values()) == {most}
        assert taken.total() <= 40

    def test_a_host_that_does_not_answer_leaves_the_others_of_its_lane_their_turn(self):
        lane = lane_number("silent.example:80")
        good = next(
            name for name in map("good{}".format, itertools.count()) if lane_number(f"{name}.example:80") == lane
        )
        run, taken = plan(*urls("silent", 60), *urls(good, 5)), Counter()

        async def use(feed: LaneFeed, writer: Writer) -> None:
            async def take() -> None:
                async for target in feed:
                    taken[target.host] += 1

            feed.end_of_plan()
            taking = asyncio.ensure_future(take())
            await until(lambda: taken.total() == 16, 10)
            taking.cancel()
            await asyncio.wait([taking])

        feeding(run, use)
        assert taken == {"silent.example:80": 12, f"{good}.example:80": 4}

    def test_goes_on_when_more_is_planned(self):
        run, taken = runs.create_run(CONFIG), []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            planner = Planner(run)

            async def plan_more() -> None:
                for page in range(3):
                    await writer(planner.add, entries(*(f"http://{h}.example/{page}" for h in "ab")))
                    feed.planned()
                    await asyncio.sleep(0.05)
                feed.end_of_plan()

            planning = asyncio.ensure_future(plan_more())
            async for target in feed:
                taken.append(target.url)
                feed.settle(outcome(target))
            await planning

        feeding(run, use)
        assert len(set(taken)) == len(taken) == 6

    def test_gives_what_is_known_while_planning_never_pauses(self):
        run, taken, pages = runs.create_run(CONFIG), [], []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            planner = Planner(run)

            async def plan_on() -> None:
                while not taken and len(pages) < 100:
                    await writer(planner.add, entries(f"http://a.example/{len(pages)}"))
                    pages.append(len(pages))
                    feed.planned()
                feed.end_of_plan()

            planning = asyncio.ensure_future(plan_on())
            async for target in feed:
                taken.append(target.url)
                feed.settle(outcome(target))
            await planning

        feeding(run, use)
        assert len(pages) < 100

    def test_says_which_shards_are_finished(self):
        run, found = plan(*urls("a", 501)), []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            feed.end_of_plan()
            async for target in feed:
                feed.settle(outcome(target))
                found.append(await writer(feed.finished_shards, [outcome(target)]))
                await writer(feed.recorded, [outcome(target)])

        feeding(run, use)
        first, second = Shard.objects.order_by("id").values_list("id", flat=True)
        assert [shards for shards in found if shards] == [[first], [second]]


async def work(
    feed: LaneFeed,
    writer: Writer,
    run: int,
    worker: int,
    taken: list[Target],
    *,
    after_first: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Take every target and record a success for it at once."""
    recorder = Recorder(run, worker, fetcher_settings())
    async for target in feed:
        taken.append(target)
        if after_first is not None and len(taken) == 1:
            await after_first()
        feed.settle(outcome(target))
        batch = [outcome(target)]
        try:
            await writer(recorder.record, batch, done=feed.finished_shards(batch))
        except LaneLost as lost:
            await writer(feed.drop, batch, lost.lanes)
        else:
            await writer(feed.recorded, batch)


class TestALostLane:
    def test_is_fed_no_more_and_what_the_other_leaves_of_it_is_taken_up_again(self):
        run, taken, other = plan(*urls("a", 50), *urls("b", 5)), [], leases.register_worker()

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            feed.end_of_plan()

            async def come_and_go() -> None:
                while len(taken) < 10:
                    await asyncio.sleep(0.001)
                await writer(Lane.objects.filter(number=lane_number("a.example:80")).update, worker=other)
                seen = len(taken)
                await asyncio.sleep(2 * LOOK)
                assert len(taken) <= seen + 6  # the rest of b, and the one that found the lane lost
                await writer(leases.let_go, other)

            going = asyncio.ensure_future(come_and_go())
            await work(feed, writer, run, worker, taken)
            await going

        working(run, use)
        assert Result.objects.count() == 55
        assert 55 <= len(taken) <= 56


class TestSeveralWorkers:
    def test_share_the_lanes_and_end_when_all_is_done(self):
        run, by_worker = plan(*(url for lane in range(20) for url in urls(f"h{lane}", 10))), {}

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            fellow = await writer(leases.register_worker, run)

            async def second() -> None:
                async with Writer() as other:
                    feed = LaneFeed(run, fellow, CONFIG, other, runs.variant_of(CONFIG))
                    feed.end_of_plan()
                    await work(feed, other, run, fellow, by_worker.setdefault(fellow, []))

            feed.end_of_plan()
            await asyncio.gather(second(), work(feed, writer, run, worker, by_worker.setdefault(worker, [])))

        working(run, use)
        assert Result.objects.count() == sum(map(len, by_worker.values())) == 200
        assert all(by_worker.values())

    def test_a_newcomer_gets_lanes_of_which_nothing_is_under_way(self):
        run, held = plan(*(url for lane in range(20) for url in urls(f"h{lane}", 10))), []

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            feed.end_of_plan()
            taken = []
            async for target in feed:
                taken.append(target)
                if len(taken) == 5:  # all of them are under way from now on
                    newcomer = await writer(leases.register_worker, run)
                    await asyncio.sleep(1.5 * LOOK)
                if len(taken) == 6:
                    held.extend(await writer(leases.lease_lanes, run, newcomer))
                    break
            assert not {target.key.lane for target in taken} & set(held)

        working(run, use)
        assert len(held) == Lane.objects.count() // 2

    def test_end_also_when_the_answer_to_giving_lanes_back_was_lost(self, monkeypatch):
        run, taken = plan(*(url for lane in range(20) for url in urls(f"h{lane}", 30))), []
        give_back, answers = leases.give_back, []

        def unanswered(worker: int, lanes: list[int], **more: Any) -> None:
            give_back(worker, lanes, **more)
            if not answers:
                answers.append(lanes)
                raise busy()

        monkeypatch.setattr(leases, "give_back", unanswered)

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            joined = asyncio.Event()

            async def second() -> None:
                async with Writer() as other:
                    while not taken:
                        await asyncio.sleep(0.001)
                    fellow = await other(leases.register_worker, run)
                    joined.set()
                    feed = LaneFeed(run, fellow, CONFIG, other, runs.variant_of(CONFIG))
                    feed.end_of_plan()
                    await work(feed, other, run, fellow, [])

            async def until_it_is_time_to_look() -> None:
                await joined.wait()
                await asyncio.sleep(1.5 * LOOK)

            feed.end_of_plan()
            first = work(feed, writer, run, worker, taken, after_first=until_it_is_time_to_look)
            await asyncio.gather(second(), first)

        working(run, use)
        assert answers
        assert Result.objects.count() == 600


class TestSuspects:
    """A lane that was taken over three times without a result is fetched one target at a time."""

    def lane(self, run: int, **values) -> None:
        Lane.objects.filter(run=run, number=lane_number("a.example:80")).update(takeovers=leases.CAREFUL, **values)

    def test_go_one_at_a_time_and_each_is_noted_before_it_is_sent(self):
        run = plan(*urls("a", 5))
        self.lane(run)

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            feed.end_of_plan()
            targets = aiter(feed)
            target = await anext(targets)
            assert (await writer(Lane.objects.get)).suspect == target.key.result
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(targets), 0.3)

        working(run, use)

    def test_are_cleared_when_the_shard_is_through(self):
        run, taken = plan(*urls("a", 5), *urls("b", 5)), []
        self.lane(run)

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            feed.end_of_plan()
            await work(feed, writer, run, worker, taken)

        working(run, use)
        assert Result.objects.count() == 10
        assert set(Lane.objects.values_list("takeovers", "suspect", "strikes")) == {(0, None, 0)}

    def test_a_target_at_which_a_process_ended_goes_alone(self):
        run, taken = plan(*urls("a", 2), *urls("b", 5)), []
        first = open_targets(run)[0].key.result
        self.lane(run, suspect=first, strikes=1)

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            feed.end_of_plan()
            pending: list[Target] = []
            recorder = Recorder(run, worker, fetcher_settings())

            async def settle_all() -> None:
                while pending:
                    batch = [outcome(pending.pop(0))]
                    feed.settle(batch[0])
                    await writer(recorder.record, batch)
                    await writer(feed.recorded, batch)

            async def settle_soon() -> None:
                await asyncio.sleep(0.05)
                await settle_all()

            async with asyncio.TaskGroup() as settling:
                async for target in feed:
                    taken.append((target.key.result == first, len(pending)))
                    pending.append(target)
                    settling.create_task(settle_soon())

        working(run, use)
        assert [under_way for struck, under_way in taken if struck] == [0]
        after = taken[[struck for struck, _ in taken].index(True) + 1 :]
        assert not after or after[0][1] == 0
        assert len(taken) == 7

    def test_a_target_at_which_two_processes_ended_is_given_up(self):
        run, taken = plan(*urls("a", 2)), []
        first = open_targets(run)[0].key.result
        self.lane(run, suspect=first, strikes=leases.STRIKES)

        async def use(feed: LaneFeed, writer: Writer, worker: int) -> None:
            feed.end_of_plan()
            await work(feed, writer, run, worker, taken)

        working(run, use)
        assert [bool(target.refused) for target in taken] == [True, False]
        assert "2 processes ended" in taken[0].refused
