"""One process's part in the pauses that all runs keep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest

from fetcher import pausing
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.execution import background
from fetcher.listener import Listener
from fetcher.models import HostPause, RunState
from fetcher.pausing import SharedPauses
from fetcher.service import fetch_list
from fetcher.store import pauses
from fetcher.writer import Writer
from tests.support.stored import entries
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def sharing(use: Callable[[SharedPauses, Control, Writer], Awaitable[None]], longest: float = 300) -> None:
    async def main() -> None:
        control = Control()
        async with Writer() as writer, asyncio.timeout(20):
            await use(SharedPauses(writer, control, longest), control, writer)

    asyncio.run(main())


def hosts() -> set[str]:
    return set(HostPause.objects.values_list("host", flat=True))


class TestSaving:
    def test_gathers_what_was_told_and_leaves_out_what_is_short(self):
        async def use(shared: SharedPauses, control: Control, writer: Writer) -> None:
            for host, seconds in (("a", 100.0), ("b", 0.9), ("c", 1.0), ("a", 5.0)):
                shared.told(host, seconds)
            await shared.save()
            assert (await writer(pauses.in_force, 300))["a"].seconds > 90
            await writer(HostPause.objects.all().delete)
            await shared.save()
            assert await writer(hosts) == set()

        sharing(use)

    def test_takes_a_moment_while_the_work_goes_on(self):
        async def use(shared: SharedPauses, control: Control, writer: Writer) -> None:
            async with background(shared.keep_looking()):
                for host in "abc":
                    await asyncio.sleep(0.01)
                    shared.told(host, 100)
                while await writer(hosts) != {"a", "b", "c"}:
                    await asyncio.sleep(0.01)

        sharing(use)

    def test_what_was_told_while_saving_was_cancelled_is_saved_the_next_time(self):
        async def use(shared: SharedPauses, control: Control, writer: Writer) -> None:
            shared.told("a", 100)
            busy = writer(time.sleep, 0.2)
            saving = asyncio.ensure_future(shared.save())
            await asyncio.sleep(0.01)
            saving.cancel()
            await asyncio.wait([saving, busy])
            await shared.save()
            assert await writer(hosts) == {"a"}

        sharing(use)


class TestLooking:
    def test_applies_each_pause_once_and_again_where_it_is_longer(self):
        async def use(shared: SharedPauses, control: Control, writer: Writer) -> None:
            found = []
            for saved in ({}, {"a": 50.0}, {}, {"b": 50.0}, {"a": 100.0}, {"a": 20.0}):
                await writer(pauses.save, {host: time.monotonic() + left for host, left in saved.items()})
                await shared.look()
                found.append({host: round(seconds, -1) for host, seconds in control.take_pauses().items()})
            assert found == [{}, {"a": 50}, {}, {"b": 50}, {"a": 100}, {}]

        sharing(use)

    def test_goes_on_beside_the_work(self):
        async def use(shared: SharedPauses, control: Control, writer: Writer) -> None:
            async with background(shared.keep_looking()):
                await writer(pauses.save, {"a": time.monotonic() + 100})
                await until(lambda: "a" in control.take_pauses(), 10)

        sharing(use)

    def test_keeps_a_pause_no_longer_than_the_run_would(self):
        async def use(shared: SharedPauses, control: Control, writer: Writer) -> None:
            await writer(pauses.save, {"a": time.monotonic() + 100})
            await shared.look()
            assert 0 < control.take_pauses()["a"] <= 10

        sharing(use, longest=10)


class TestRuns:
    CONFIG = FetchConfig(concurrency=4, per_host=1, max_attempts=2)

    def test_keep_what_another_run_was_told_from_their_beginning_and_while_they_go_on(self, monkeypatch):
        """Two runs at once; the second learns of the pause in its middle, and the third before it sends anything."""
        monkeypatch.setattr(pausing, "LOOK", 0.05)
        asked: dict[str, list[float]] = {"first": [], "second": [], "third": []}
        told = asyncio.Event()

        def transport(name: str) -> httpx.MockTransport:
            async def answer(request: httpx.Request) -> httpx.Response:
                if request.url.host == "busy.example":
                    asked[name].append(time.monotonic())
                    if name == "first" and len(asked["first"]) == 1:
                        await until(lambda: bool(asked["second"]), 10)
                        told.set()
                        return httpx.Response(429, headers={"Retry-After": "2"})
                await asyncio.sleep(0.02)
                return httpx.Response(200)

            return httpx.MockTransport(answer)

        async def run(name: str, count: int) -> RunState:
            urls = [f"http://{host}.example/{name}/{n}" for n in range(count) for host in ("busy", "free")]
            return await fetch_list(entries(*urls), self.CONFIG, listener=Listener(), transport=transport(name))

        async def third() -> RunState:
            await told.wait()
            async with Writer() as writer:
                while not await writer(hosts):
                    await asyncio.sleep(0.01)
            return await run("third", 2)

        async def main() -> list[RunState]:
            async with asyncio.timeout(60):
                return await asyncio.gather(run("first", 2), run("second", 100), third())

        assert asyncio.run(main()) == [RunState.COMPLETED] * 3
        over = min(moment for moment in asked["first"][1:])
        silent = [later - earlier for earlier, later in zip(asked["second"], asked["second"][1:], strict=False)]
        assert max(silent) > 1
        assert min(asked["third"]) >= over - 0.5
        assert len(asked["second"]) == 100
