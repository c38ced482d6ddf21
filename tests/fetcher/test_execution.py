"""One process's work on a run, and its lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fetcher import execution
from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter
from fetcher.execution import Execution
from fetcher.feed import LaneFeed
from fetcher.models import Lane, Result, Run, RunState, Waiting, Worker
from fetcher.options import RunOptions
from fetcher.store import leases, pauses, runs
from fetcher.writer import Writer
from tests.support.stored import plan
from tests.support.waiting import until

CONFIG = FetchConfig(concurrency=2, per_host=2)

pytestmark = pytest.mark.django_db(transaction=True)


async def planned(feed: LaneFeed) -> None:
    feed.end_of_plan()


class Slow:
    """Answers after a while, or never, and notes when it was asked, and for what."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.urls: set[str] = set()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hangs = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(time.monotonic())
        self.urls.add(str(request.url))
        await asyncio.sleep(1000 if self.hangs else 0.02)
        return httpx.Response(self.status, headers=self.headers)


def execute(
    count: int,
    during: Callable[[Slow, Writer, Control], object],
    *,
    hosts: int = 1,
    config: FetchConfig = CONFIG,
    planning: Callable[[LaneFeed], Coroutine[Any, Any, None]] = planned,
    patience: float | None = None,
) -> tuple[Slow, int]:
    """Work on a run of so many targets while ``during`` goes on; return the transport and the worker."""
    urls = [f"http://{'abc'[number % hosts]}.example/{number}" for number in range(count)]
    run, slow = plan(*urls), Slow()

    async def main() -> int:
        control = Control()
        async with Writer() as writer:
            worker = await writer(leases.register_worker, run)
            work = Execution(
                run, worker, config, RunOptions(), writer=writer, control=control, disk=DiskWatch([], 0), meter=Meter(),
                saved=lambda ids, tally: None, transport=httpx.MockTransport(slow), patience=patience,
            )  # fmt: skip
            other = asyncio.ensure_future(during(slow, writer, control))
            async with asyncio.timeout(20):
                await work.work(planning)
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

    def test_lasts_no_longer_than_a_moment_once_the_run_is_cancelled_although_an_answer_never_comes(self, monkeypatch):
        monkeypatch.setattr(execution, "LOOK", 0.05)
        monkeypatch.setattr(execution, "CUT", 0.3)

        async def cancel(slow: Slow, writer: Writer, control: Control) -> None:
            slow.hangs = True
            await until(lambda: len(slow.asked) >= 2, 10)
            await writer(runs.cancel, await writer(lambda: Run.objects.get().pk))

        began = time.monotonic()
        slow, _ = execute(60, cancel)
        assert time.monotonic() - began < 10
        assert Result.objects.count() < len(slow.asked) < 60
        assert Run.objects.get().state == RunState.CANCELLED


class TestASlice:
    """With patience it is a part of the work that others go on with."""

    def test_does_not_wait_for_a_source_that_others_read(self):
        async def nothing(slow: Slow, writer: Writer, control: Control) -> None:
            pass

        async def endless(feed: LaneFeed) -> None:
            await asyncio.sleep(1000)

        execute(3, nothing, patience=0.2, planning=endless)
        assert Result.objects.count() == 3

    def test_gives_up_its_lanes_and_keeps_what_was_tried(self):
        async def stop(slow: Slow, writer: Writer, control: Control) -> None:
            slow.status = 503
            await until(lambda: len(slow.asked) >= 5, 10)
            control.stop()

        slow, _ = execute(60, stop, patience=3, config=FetchConfig(concurrency=2, backoff_base=60, backoff_max=60))
        assert Waiting.objects.count() == len(slow.urls) < 60  # a backoff may be drawn so short that one is asked twice
        assert not Result.objects.exists()
        assert not Lane.objects.exclude(worker=None).exists()

    def test_keeps_nothing_of_that_where_it_is_the_whole_of_the_work(self):
        """A command's: whoever resumes it begins anew."""

        async def stop(slow: Slow, writer: Writer, control: Control) -> None:
            slow.status = 503
            await until(lambda: len(slow.asked) >= 5, 10)
            control.stop()

        execute(60, stop, config=FetchConfig(concurrency=2, backoff_base=60, backoff_max=60))
        assert not Waiting.objects.exists()

    def test_uses_its_part_of_the_concurrency_only(self):
        async def look(slow: Slow, writer: Writer, control: Control) -> None:
            await writer(lambda: leases.register_worker(Run.objects.get().pk))
            await until(lambda: control.sharers == 2, 10)
            control.stop()

        execute(200, look, patience=3, hosts=2)


class TestPauses:
    def test_of_others_hold_from_the_beginning_and_our_own_are_saved_before_the_end(self):
        until_then = time.monotonic() + 0.5
        pauses.save({"a.example:80": until_then})

        async def nothing(slow: Slow, writer: Writer, control: Control) -> None:
            slow.status, slow.headers = 429, {"Retry-After": "100"}

        slow, _ = execute(1, nothing, config=FetchConfig(max_attempts=1))
        assert slow.asked[0] >= until_then - 0.02
        assert pauses.in_force(300)["a.example:80"].seconds > 90
