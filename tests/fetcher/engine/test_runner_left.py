"""What is given back when ``fetch_all`` is stopped, and goes on in the next one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter, fetch_all
from fetcher.engine.types import Outcome, Status, Target, Tried
from tests.support.waiting import until

Script = Callable[[httpx.Request], httpx.Response]
WAITS = {"Retry-After": "100"}


class Slice:
    """One ``fetch_all`` that is stopped: what it gave, what was left and what it never took."""

    def __init__(self, targets: Sequence[Target], script: Script, **options: Any) -> None:
        self.config = FetchConfig(**{"concurrency": 4, "per_host": 4, "backoff_base": 0, **options})
        self.control, self.meter = Control(), Meter()
        self.script = script
        self.targets = iter(targets)
        self.seen: list[str] = []
        self.stop_at: int | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.outcomes: list[Outcome] = []
        self.left: list[Target] = []
        self.paused: list[tuple[str, float]] = []

    async def work(self) -> Slice:
        fetching = fetch_all(
            self._source(),
            self.config,
            transport=httpx.MockTransport(self._answer),
            meter=self.meter,
            control=self.control,
            left=self._leave,
            paused=lambda host, seconds: self.paused.append((host, seconds)),
        )
        async with asyncio.timeout(10), aclosing(fetching):  # type: ignore[type-var]
            self.outcomes += [outcome async for outcome in fetching]
        return self

    def _source(self) -> Iterator[Target]:
        return self.targets

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(str(request.url))
        if len(self.seen) == self.stop_at:
            self.control.stop()
        await asyncio.sleep(0)
        await self.open.wait()
        return self.script(request)

    def _leave(self, target: Target, tried: Tried | None) -> None:
        self.left.append(msgspec.structs.replace(target, tried=tried))

    def keys(self) -> tuple[list[Any], list[Any]]:
        return sorted(one.target.key for one in self.outcomes), sorted(one.key for one in self.left)


def targets(count: int, path: str = "") -> list[Target]:
    return [Target(f"http://a.example/{path}{number}", "a.example:80", key=number) for number in range(count)]


def answer(status: int, **headers: str) -> Script:
    return lambda request: httpx.Response(status, headers=headers)


def passed(target: Target, seconds: float) -> Target:
    """Return a target as if it had been put down so many seconds ago."""
    tried = target.tried
    assert tried is not None
    tried = msgspec.structs.replace(
        tried,
        first_epoch=tried.first_epoch - seconds,
        due_epoch=tried.due_epoch - seconds,
        put_down_epoch=tried.put_down_epoch - seconds,
    )
    return msgspec.structs.replace(target, tried=tried)


class TestStop:
    async def test_what_is_in_flight_has_outcomes_and_what_is_queued_is_given_back_at_once(self) -> None:
        one = Slice(targets(20), answer(200))
        one.open.clear()
        work = asyncio.create_task(one.work())
        await until(lambda: one.meter.in_flight == 4)
        one.control.stop()
        assert len(one.left) == 16  # while four are still in flight
        assert one.meter.held == 4
        one.open.set()
        await work
        assert one.keys() == (list(range(4)), list(range(4, 20)))
        assert {target.tried for target in one.left} == {None}
        assert len(one.seen) == 4

    async def test_what_waits_for_a_retry_is_given_back_with_its_attempts(self) -> None:
        one = Slice(targets(3), answer(503, **WAITS))
        work = asyncio.create_task(one.work())
        await until(lambda: one.meter.retries == 3)
        one.control.stop()
        await work
        assert one.keys() == ([], [0, 1, 2])
        for target in one.left:
            assert target.tried is not None
            [attempt] = target.tried.attempts
            assert (attempt.http_status, attempt.waited, attempt.wait_reason) == (503, 100, "retry_after")
            assert target.tried.still_to_wait(target.tried.put_down_epoch) == pytest.approx(100, abs=1)

    async def test_a_failure_in_flight_that_is_worth_a_retry_is_given_back(self) -> None:
        one = Slice(targets(1), answer(503))
        one.stop_at = 1
        await one.work()
        assert one.keys() == ([], [0])
        assert one.left[0].tried is not None
        assert len(one.seen) == 1

    @pytest.mark.parametrize("status", [302, 303, 307])
    async def test_what_was_redirected_is_followed_so_that_nothing_is_sent_a_second_time(self, status: int) -> None:
        def script(request: httpx.Request) -> httpx.Response:
            if not request.url.path.startswith("/from"):
                return httpx.Response(200)
            number = request.url.path.removeprefix("/from")
            return httpx.Response(status, headers={"Location": f"http://b.example/to{number}"})

        one = Slice(targets(20, "from"), script)
        one.stop_at = 3
        await one.work()
        begun = {url for url in one.seen if "/from" in url}
        assert {outcome.target.url for outcome in one.outcomes} == begun
        assert {outcome.status for outcome in one.outcomes} == {Status.SUCCEEDED}
        assert max(Counter(one.seen).values()) == 1
        assert len(one.outcomes) + len(one.left) + len(list(one.targets)) == 20

    @pytest.mark.parametrize("held", [False, True], ids=["paused", "held up"])
    async def test_a_redirect_that_would_have_to_wait_is_put_back_to_its_beginning(self, held: bool) -> None:
        """To a host that is to be left alone, or when nothing may be sent: the end must not wait for that."""
        one = Slice(targets(1, "from"), answer(302, Location="http://busy.example/"))
        one.open.clear()
        work = asyncio.create_task(one.work())
        await until(lambda: one.meter.in_flight == 1)
        if held:
            one.control.hold()
        else:
            one.control.pause({"busy.example:80": 100})
        one.control.stop()
        one.open.set()
        await work
        assert one.keys() == ([], [0])
        assert one.left[0].tried is None
        assert one.seen == ["http://a.example/from0"]

    async def test_before_anything_was_taken_leaves_all_of_it_in_the_source(self) -> None:
        one = Slice(targets(3), answer(200))
        one.control.stop()
        await one.work()
        assert one.keys() == ([], [])
        assert len(list(one.targets)) == 3

    async def test_with_a_single_worker_and_nothing_under_way_ends(self) -> None:
        one = Slice(targets(5), answer(200), concurrency=1, look_ahead=2)
        one.control.hold()
        work = asyncio.create_task(one.work())
        await until(lambda: one.meter.held == 2)
        one.control.stop()
        await work
        assert one.keys() == ([], [0, 1])
        assert one.meter.held == 0

    async def test_a_host_that_asked_to_be_left_alone_is_told_of(self) -> None:
        one = Slice(targets(1), answer(429, **WAITS))
        one.stop_at = 1
        await one.work()
        assert one.paused == [("a.example:80", 100.0)]

    @pytest.mark.parametrize(
        ("status", "headers"),
        [(200, {}), (404, {}), (503, {}), (500, WAITS), (503, {"Retry-After": "soon"})],
        ids=["200", "404", "503 without", "500", "nonsense"],
    )
    async def test_no_host_is_told_of_that_did_not_ask(self, status: int, headers: dict[str, str]) -> None:
        one = await Slice(targets(3), answer(status, **headers), max_attempts=1).work()
        assert one.paused == []


class TestOverSeveralSlices:
    async def slices(self, seconds: float, **options: Any) -> tuple[Outcome, int]:
        """Have one target answered 503 with Retry-After in slice after slice, so many seconds apart."""
        given, sent = targets(1), 0
        while True:
            one = Slice(given, answer(503, **WAITS), **options)
            one.stop_at = 1
            await one.work()
            sent += len(one.seen)
            if one.outcomes:
                return one.outcomes[0], sent
            given = [passed(target, seconds) for target in one.left]

    async def test_attempts_go_on_counting(self) -> None:
        outcome, sent = await self.slices(100, max_attempts=3)
        assert (outcome.status, outcome.http_status, sent) == (Status.FAILED, 503, 3)
        assert [attempt.number for attempt in outcome.attempts] == [1, 2, 3]
        assert [attempt.waited for attempt in outcome.attempts] == [100, 100, None]
        assert outcome.started_at == outcome.attempts[0].started_at - 200

    async def test_waits_count_against_the_total_deadline(self) -> None:
        outcome, sent = await self.slices(100, max_attempts=100, total_deadline=250)
        assert (len(outcome.attempts), sent) == (3, 3)

    async def test_the_time_for_which_nobody_had_it_does_not(self) -> None:
        outcome, sent = await self.slices(10_000, max_attempts=100, total_deadline=450)
        assert (len(outcome.attempts), sent) == (5, 5)

    async def test_what_is_not_due_yet_is_not_sent_and_is_given_back_as_it_was(self) -> None:
        one = Slice(targets(1), answer(503, **WAITS))
        one.stop_at = 1
        await one.work()
        given = [passed(one.left[0], 30)]
        for _ in range(3):
            two = Slice(given, answer(200))
            work = asyncio.create_task(two.work())
            await until(lambda two=two: two.meter.held == 1)
            await asyncio.sleep(0.01)
            two.control.stop()
            await work
            assert (two.seen, two.outcomes) == ([], [])
            [tried] = [target.tried for target in two.left]
            assert tried is not None
            assert tried.attempts == given[0].tried.attempts  # type: ignore[union-attr]
            assert tried.still_to_wait(tried.put_down_epoch) == pytest.approx(70, abs=1)
            given = two.left

    async def test_what_is_due_soon_is_sent_then(self) -> None:
        one = Slice(targets(1), answer(503, **WAITS))
        one.stop_at = 1
        await one.work()
        two = await Slice([passed(one.left[0], 99.8)], answer(200)).work()
        [outcome] = two.outcomes
        assert (outcome.status, len(outcome.attempts)) == (Status.SUCCEEDED, 2)


class Scripted:
    """Answers each target by a list of its own, and 200 when that is used up."""

    def __init__(self, lists: Sequence[Sequence[str]]) -> None:
        self.lists = [list(one) for one in lists]
        self.first_requests: Counter[int] = Counter()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        number = int(request.url.path.rpartition("/")[2])
        if request.url.host != "elsewhere.example":
            self.first_requests[number] += 1
        match self.lists[number].pop(0) if self.lists[number] else "200":
            case "redirect":
                return httpx.Response(302, headers={"Location": f"http://elsewhere.example/{number}"})
            case "broken":
                raise httpx.ReadError("reset")
            case "later":
                return httpx.Response(503, headers={"Retry-After": "0"})
            case status:
                return httpx.Response(int(status))


@settings(max_examples=60)
@given(
    lists=st.lists(st.lists(st.sampled_from(["200", "404", "503", "later", "redirect", "broken"]), max_size=5)),
    stops=st.lists(st.integers(1, 12), max_size=8),
    concurrency=st.integers(1, 4),
    look_ahead=st.integers(1, 3),
)
def test_every_target_has_one_outcome_in_the_end_wherever_the_slices_are_cut(
    lists: list[list[str]], stops: list[int], concurrency: int, look_ahead: int
) -> None:
    script = Scripted(lists)

    async def main() -> list[Outcome]:
        rest, outcomes = targets(len(lists)), []
        for stop_at in [*stops, None]:
            one = Slice(rest, script, concurrency=concurrency, look_ahead=look_ahead, max_attempts=3)
            one.stop_at = stop_at
            await one.work()
            untaken = list(one.targets)
            done, left = one.keys()
            assert sorted([*done, *left, *(target.key for target in untaken)]) == sorted(target.key for target in rest)
            assert one.meter.held == one.meter.in_flight == 0
            outcomes += one.outcomes
            rest = [*one.left, *untaken]
        assert rest == []
        return outcomes

    outcomes = asyncio.run(main())
    assert sorted(outcome.target.key for outcome in outcomes) == list(range(len(lists)))
    for outcome in outcomes:
        assert [attempt.number for attempt in outcome.attempts] == list(range(1, len(outcome.attempts) + 1))
        assert len(outcome.attempts) <= 3
        # A redirect that is cut between its hops is followed from its beginning again.
        assert script.first_requests[outcome.target.key] >= len(outcome.attempts)
        if "redirect" not in lists[outcome.target.key]:
            assert script.first_requests[outcome.target.key] == len(outcome.attempts)
