"""A hand on a running ``fetch_all``."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx

from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter, fetch_all
from fetcher.engine.types import Outcome, Target
from tests.support.waiting import until

CONFIG = FetchConfig(concurrency=4, per_host=4, backoff_base=0, max_attempts=2)


class Gate(httpx.AsyncBaseTransport):
    """Answers once it is open, with the status that a path of digits names."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.url.path)
        await self.open.wait()
        name = request.url.path.strip("/").partition("-")[0]
        if name == "307":
            return httpx.Response(307, headers={"Location": "/200-elsewhere"})
        return httpx.Response(int(name))


def targets(status: int, count: int) -> list[Target]:
    return [Target(f"http://a.example/{status}-{number}", "a.example:80") for number in range(count)]


async def collect(source: list[Target], gate: Gate, control: Control, meter: Meter | None = None) -> list[Outcome]:
    async with (
        asyncio.timeout(10),
        aclosing(fetch_all(source, CONFIG, transport=gate, control=control, meter=meter)) as all_,
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
