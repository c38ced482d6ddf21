"""A hand on a running ``fetch_all``."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import aclosing

import httpx
import pytest

from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter, fetch_all
from fetcher.engine.types import Outcome, Target
from tests.support.waiting import until

CONFIG = FetchConfig(concurrency=4, per_host=4, backoff_base=0, max_attempts=2)
WIDE = FetchConfig(concurrency=8, per_host=8, backoff_base=0, max_attempts=2)


class Gate(httpx.AsyncBaseTransport):
    """Answers once it is open, or lets so many through, with the status that a path of digits names."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[str] = []
        self._tickets = asyncio.Semaphore(0)

    def let_through(self, count: int) -> None:
        for _ in range(count):
            self._tickets.release()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.url.path)
        opened, ticket = asyncio.ensure_future(self.open.wait()), asyncio.ensure_future(self._tickets.acquire())
        await asyncio.wait({opened, ticket}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel(), ticket.cancel()
        name = request.url.path.strip("/").partition("-")[0]
        if name == "307":
            return httpx.Response(307, headers={"Location": "/200-elsewhere"})
        return httpx.Response(int(name))


def targets(status: int, count: int) -> list[Target]:
    return [Target(f"http://a.example/{status}-{number}", "a.example:80") for number in range(count)]


def spread(count: int) -> list[Target]:
    """Return targets of different hosts."""
    return [Target(f"http://h{number}.example/200", f"h{number}.example:80") for number in range(count)]


async def collect(
    source: list[Target], gate: Gate, control: Control, meter: Meter | None = None, config: FetchConfig = CONFIG
) -> list[Outcome]:
    async with (
        asyncio.timeout(10),
        aclosing(fetch_all(source, config, transport=gate, control=control, meter=meter)) as all_,
    ):
        return [outcome async for outcome in all_]


class TestStop:
    async def test_what_is_in_flight_has_its_outcome_and_the_rest_is_not_sent(self) -> None:
        gate, control, meter = Gate(), Control(), Meter()
        fetching = asyncio.create_task(collect(targets(200, 20), gate, control, meter))
        await until(lambda: meter.in_flight == 4, 5)
        control.stop()
        gate.open.set()
        assert [outcome.http_status for outcome in await fetching] == [200] * 4
        assert len(gate.seen) == 4

    async def test_a_failure_is_not_retried_and_a_redirect_not_followed(self) -> None:
        gate, control = Gate(), Control()
        fetching = asyncio.create_task(collect([*targets(503, 1), *targets(307, 1)], gate, control))
        await until(lambda: len(gate.seen) == 2, 5)
        control.stop()
        gate.open.set()
        assert await fetching == []
        assert len(gate.seen) == 2

    async def test_with_nothing_in_flight_ends_at_once(self) -> None:
        gate, control = Gate(), Control()
        control.hold()
        fetching = asyncio.create_task(collect(targets(200, 20), gate, control))
        await asyncio.sleep(0.01)
        control.stop()
        assert await fetching == []

    async def test_before_the_beginning_sends_nothing(self) -> None:
        gate, control = Gate(), Control()
        control.stop()
        assert await collect(targets(200, 3), gate, control) == []
        assert gate.seen == []

    async def test_does_not_wait_for_a_source_that_blocks(self) -> None:
        gate, control = Gate(), Control()
        gate.open.set()

        async def endless():
            yield targets(200, 1)[0]
            await asyncio.sleep(1000)

        fetching = asyncio.create_task(collect(endless(), gate, control))  # type: ignore[arg-type]
        await until(lambda: len(gate.seen) == 1, 5)
        control.stop()
        assert len(await fetching) == 1


class TestHold:
    async def test_nothing_new_is_sent_until_it_may_go_on(self) -> None:
        gate, control, meter = Gate(), Control(), Meter()
        fetching = asyncio.create_task(collect([*targets(503, 3), *targets(200, 17)], gate, control, meter))
        await until(lambda: meter.in_flight == 4, 5)
        control.hold()
        gate.open.set()
        await until(lambda: meter.in_flight == 0, 5)
        await asyncio.sleep(0.05)
        assert len(gate.seen) == 4
        control.go_on()
        assert len(await fetching) == 20
        assert len(gate.seen) == 23


class TestShare:
    """A part of the concurrency, by the peaks that the transport saw."""

    @pytest.mark.parametrize(("sharers", "peak"), [(1, 8), (2, 4), (3, 3), (8, 1), (100, 1)])
    async def test_only_a_part_of_the_concurrency_is_used(self, sharers: int, peak: int) -> None:
        gate, control, meter = Gate(), Control(), Meter()
        control.share(sharers)
        fetching = asyncio.create_task(collect(spread(30), gate, control, meter, WIDE))
        await until(lambda: meter.in_flight == peak, 5)
        await asyncio.sleep(0.02)
        gate.open.set()
        assert len(await fetching) == 30
        assert meter.peak == peak

    async def test_less_is_sent_once_others_have_come_and_more_again_when_they_have_gone(self) -> None:
        gate, control, meter = Gate(), Control(), Meter()
        fetching = asyncio.create_task(collect(spread(60), gate, control, meter, WIDE))
        await until(lambda: meter.in_flight == 8, 5)
        control.share(4)
        for answered in range(1, 7):  # none is sent for those that are answered, down to the new bound
            gate.let_through(1)
            await until(lambda answered=answered: meter.in_flight == 8 - answered, 5)
        for _ in range(10):
            sent = len(gate.seen)
            gate.let_through(1)
            await until(lambda sent=sent: len(gate.seen) == sent + 1, 5)
            assert meter.in_flight == 2
        control.share(1)
        await until(lambda: meter.in_flight == 8, 5)
        gate.open.set()
        assert len(await fetching) == 60

    async def test_a_retry_is_sent_as_well_when_there_is_room_for_one_only(self) -> None:
        gate, control = Gate(), Control()
        gate.open.set()
        control.share(8)
        outcomes = await collect([*targets(503, 3), *targets(200, 3)], gate, control, config=WIDE)
        assert sorted(len(outcome.attempts) for outcome in outcomes) == [1, 1, 1, 2, 2, 2]

    async def test_while_there_is_no_room_a_retry_that_is_due_is_waited_for_at_rest(self) -> None:
        class Counting(Control):
            asked = 0

            @property
            def sending(self) -> bool:
                self.asked += 1
                return super().sending

        gate, control, meter = Gate(), Counting(), Meter()
        slow = dataclasses.replace(WIDE, backoff_base=0.02, backoff_max=0.02)
        fetching = asyncio.create_task(collect([*targets(503, 4), *targets(200, 8)], gate, control, meter, slow))
        await until(lambda: meter.in_flight == 8, 5)
        control.share(2)
        gate.let_through(4)
        await until(lambda: meter.retries == 4, 5)
        await asyncio.sleep(0.05)  # those that wait are due
        before = control.asked
        await asyncio.sleep(0.2)
        assert control.asked - before < 10
        gate.open.set()
        assert len(await fetching) == 12


class TestPause:
    async def test_a_host_is_left_alone_from_the_beginning_and_no_other_is(self) -> None:
        gate, control, meter = Gate(), Control(), Meter()
        gate.open.set()
        control.pause({"a.example:80": 0.3})
        began = time.monotonic()
        source = [*targets(200, 2), Target("http://b.example/200-b", "b.example:80")]
        outcomes = await collect(source, gate, control, meter)
        assert [outcome.target.host for outcome in outcomes] == ["b.example:80", "a.example:80", "a.example:80"]
        assert time.monotonic() - began >= 0.3

    async def test_what_waits_when_it_is_said_is_left_alone_as_well(self) -> None:
        gate, control, meter = Gate(), Control(), Meter()
        fetching = asyncio.create_task(collect(targets(200, 6), gate, control, meter))
        await until(lambda: meter.in_flight == 4, 5)
        control.pause({"a.example:80": 0.3, "unheard.example:80": 100})
        began = time.monotonic()
        gate.open.set()
        await until(lambda: meter.in_flight == 0, 5)
        assert len(gate.seen) == 4
        assert len(await fetching) == 6
        assert time.monotonic() - began >= 0.29

    async def test_is_kept_for_no_longer_than_one_of_our_own_would_be(self) -> None:
        gate, control = Gate(), Control()
        gate.open.set()
        control.pause({"a.example:80": 1000})
        short = dataclasses.replace(CONFIG, max_retry_after=0.05)
        assert len(await collect(targets(200, 2), gate, control, config=short)) == 2

    async def test_is_taken_once_and_with_what_is_left_of_it(self) -> None:
        control = Control()
        control.pause({"a:80": 100, "b:80": 0})
        control.pause({"a:80": 5})
        assert control.take_pauses() == {"a:80": pytest.approx(100, abs=1)}
        assert control.take_pauses() == {}


async def test_a_control_may_outlive_the_fetching() -> None:
    gate, control = Gate(), Control()
    gate.open.set()
    assert len(await collect(targets(200, 3), gate, control)) == 3
    control.hold()
    control.go_on()
    control.stop()


async def test_a_refused_target_is_not_requested() -> None:
    gate = Gate()
    [outcome] = await collect([Target("http://a.example/200", "a.example:80", refused="ended two")], gate, Control())
    assert (outcome.error_kind, outcome.error_detail, outcome.attempts) == ("internal", "ended two", ())
    assert gate.seen == []
