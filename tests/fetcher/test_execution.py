"""One process's work on a run, and its lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter
from fetcher.execution import Execution
from fetcher.feed import LaneFeed
from fetcher.models import Result, Worker
from fetcher.options import RunOptions
from fetcher.store import leases
from fetcher.writer import Writer
from tests.support.stored import plan
from tests.support.waiting import until

CONFIG = FetchConfig(concurrency=2, per_host=2)

pytestmark = pytest.mark.django_db(transaction=True)


async def planned(feed: LaneFeed) -> None:
    feed.end_of_plan()


class Slow:
    """Answers after a while, and notes when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(time.monotonic())
        await asyncio.sleep(0.02)
        return httpx.Response(200)


def execute(count: int, during: Callable[[Slow, Writer, Control], object]) -> tuple[Slow, int]:
    """Work on a run of so many targets while ``during`` goes on; return the transport and the worker."""
    run, slow = plan(*(f"http://a.example/{number}" for number in range(count))), Slow()

    async def main() -> int:
        control = Control()
        async with Writer() as writer:
            worker = await writer(leases.register_worker, run)
            execution = Execution(
                run, worker, CONFIG, RunOptions(), writer=writer, control=control, disk=DiskWatch([], 0), meter=Meter(),
                saved=lambda ids, tally: None, transport=httpx.MockTransport(slow),
            )  # fmt: skip
            other = asyncio.ensure_future(during(slow, writer, control))
            async with asyncio.timeout(20):
                await execution.work(planned)
                await other
            return worker

    return slow, asyncio.run(main())


class TestTheLease:
    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.6))
        monkeypatch.setattr(leases, "RENEWAL", 0.1)

    def test_is_renewed_while_the_work_goes_on(self):
        async def look(slow: Slow, writer: Writer, control: Control) -> None:
            seen = set()
            while len(seen) < 3:
                seen.update(await writer(lambda: list(Worker.objects.values_list("expires_at", flat=True))))
                await asyncio.sleep(0.05)

        execute(60, look)
        assert Result.objects.count() == 60

    def test_that_cannot_be_renewed_stops_the_sending_after_two_thirds_and_no_longer_than_needed(self):
        """Somebody may be about to take over; what is in flight is finished."""
        release = threading.Event()

        async def block(slow: Slow, writer: Writer, control: Control) -> None:
            await until(lambda: len(slow.asked) >= 5, 10)
            blocked = writer(release.wait, 10)  # as a database does that does not answer
            await until(lambda: control.held, 10)
            silent_from = len(slow.asked)
            await asyncio.sleep(0.3)
            assert len(slow.asked) == silent_from
            release.set()
            await blocked
            await until(lambda: not control.held, 10)

        execute(60, block)
        assert Result.objects.count() == 60


class TestStopping:
    def test_saves_what_is_in_flight_and_leaves_the_rest(self):
        async def stop(slow: Slow, writer: Writer, control: Control) -> None:
            await until(lambda: len(slow.asked) >= 5, 10)
            control.stop()

        slow, _ = execute(60, stop)
        assert Result.objects.count() == len(slow.asked) < 60
