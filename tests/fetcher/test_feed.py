"""From leased lanes to the engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Outcome, Target
from fetcher.feed import LaneFeed
from fetcher.models import Shard
from fetcher.store import leases, runs
from fetcher.store.plan import Planner
from fetcher.writer import Writer
from tests.support.stored import entries, open_targets, outcome, plan, record

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = FetchConfig(concurrency=4, look_ahead=10, per_host=8)


def feeding(run: int, use: Callable[[LaneFeed, Writer], Awaitable[None]], config: FetchConfig = CONFIG) -> None:
    async def main() -> None:
        async with Writer() as writer:
            worker = await writer(leases.register_worker)
            await use(LaneFeed(run, worker, config, writer, runs.variant_of(config)), writer)

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

    @pytest.mark.parametrize(("lanes", "most"), [(1, 8), (3, 8), (7, 5), (40, 1)])
    def test_gives_one_lane_no_more_than_its_share_of_the_look_ahead(self, lanes, most):
        run, taken = plan(*(url for lane in range(lanes) for url in urls(f"h{lane}", 20))), Counter()

        async def use(feed: LaneFeed, writer: Writer) -> None:
            async def take() -> None:
                async for target in feed:
                    taken[target.key.lane] += 1

            feed.end_of_plan()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await take()

        feeding(run, use)
        assert set(taken.values()) == {most}
        assert taken.total() <= 40

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

    def test_gives_nothing_more_of_a_lost_lane_and_ends(self):
        run, taken = plan(*urls("a", 50), *urls("b", 5)), []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            feed.end_of_plan()
            async for target in feed:
                taken.append(target.host)
                if target.host == "a.example:80":
                    feed.drop([target.key.lane])
                feed.settle(outcome(target))

        feeding(run, use)
        assert Counter(taken) == {"a.example:80": 1, "b.example:80": 5}

    def test_says_which_shards_are_finished(self):
        run, found = plan(*urls("a", 501)), []

        async def use(feed: LaneFeed, writer: Writer) -> None:
            feed.end_of_plan()
            async for target in feed:
                feed.settle(outcome(target))
                found.append(await writer(feed.finished_shards, [outcome(target)]))

        feeding(run, use)
        first, second = Shard.objects.order_by("id").values_list("id", flat=True)
        assert [shards for shards in found if shards] == [[first], [second]]
