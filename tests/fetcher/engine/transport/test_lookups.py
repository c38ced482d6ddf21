"""Name servers that do not answer hold up no other names, and a wait in line is no time of the name's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from fetcher.engine.errors import LocalFault
from fetcher.engine.transport import lookups, resolver
from fetcher.engine.transport.resolver import Resolver
from tests.support.waiting import until

BOUND = 30
"""Seconds after which a test that hangs has failed."""


class NameServers:
    """Answers at once, but for names that begin with ``s``: these stall until ``release`` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.running = self.peak = 0
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[str]:
        with self.lock:
            self.asked.append(host)
            self.running += 1
            self.peak = max(self.peak, self.running)
        if host.startswith("s"):
            self.release.wait(BOUND)
        with self.lock:
            self.running -= 1
        return ["192.0.2.1"]


@pytest.fixture
def servers() -> Iterator[NameServers]:
    servers = NameServers()
    yield servers
    servers.release.set()


@pytest.fixture
def quick_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have look-ups count as stalled after 40 ms."""
    monkeypatch.setattr(lookups, "STALL_SECONDS", 0.04)


async def patiently(resolver: Resolver, host: str, timeout: float) -> float:  # noqa: ASYNC109
    """Ask as the engine does, which puts a request off that waited in line; return the seconds of the look-up."""
    while True:
        try:
            return (await resolver.look_up(host, timeout))[1]
        except LocalFault:
            await asyncio.sleep(0.05)


def ours() -> int:
    return sum(thread.name == "trawl-resolver" for thread in threading.enumerate())


async def leave(tasks: list[asyncio.Task[float]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("quick_stalls")
class TestStalled:
    @pytest.mark.parametrize("name", ["s{}.test", "s.s{}.test"], ids=["one suffix", "a suffix each"])
    async def test_look_ups_fail_no_other_names(self, servers: NameServers, name: str) -> None:
        resolver = Resolver(servers)
        hung = [asyncio.create_task(patiently(resolver, name.format(number), BOUND)) for number in range(200)]
        async with asyncio.timeout(BOUND):
            seconds = await asyncio.gather(*[patiently(resolver, f"good{number}.example", 10) for number in range(200)])

        assert len(seconds) == 200
        assert not any(task.done() for task in hung)
        await leave(hung)
        resolver.close()

    async def test_look_ups_of_one_suffix_have_half_of_the_threads_at_most(self, servers: NameServers) -> None:
        threads = lookups.Lookups(servers, threads=2, most_threads=8)
        for number in range(20):
            threads.submit(f"s{number}.stalled.test", lambda answer: None)
        await until(lambda: threads.stalled == 4, 10)
        await asyncio.sleep(0.2)
        assert servers.running == 4

        answered: list[str] = []
        threads.submit("good.example", lambda answer: answered.append("good.example"))
        await until(lambda: bool(answered), 10)
        threads.close()

    async def test_look_ups_start_no_more_threads_than_allowed(self, servers: NameServers) -> None:
        threads = lookups.Lookups(servers, threads=2, most_threads=8)
        for number in range(20):
            threads.submit(f"s.s{number}.test", lambda answer: None)
        await until(lambda: threads.stalled == 8, 10)
        await asyncio.sleep(0.1)

        assert servers.peak == 8
        threads.close()

    async def test_look_ups_leave_no_surplus_threads_once_they_end(self, servers: NameServers) -> None:
        await until(lambda: ours() == 0, 10)  # those of other tests
        threads = lookups.Lookups(servers, threads=2, most_threads=8)
        ended: list[list[str]] = []
        for number in range(8):
            threads.submit(f"s.s{number}.test", ended.append)
        await until(lambda: threads.stalled == 8, 10)
        servers.release.set()
        await until(lambda: len(ended) == 8, 10)

        await until(lambda: ours() == 2, 10)
        assert threads.stalled == 0
        threads.close()
        await until(lambda: ours() == 0, 10)

    async def test_name_is_put_off_and_named_as_ours_when_every_thread_stalls(
        self, servers: NameServers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resolver, "LINE_SECONDS", 0.2)
        asking = Resolver(servers, threads=2)
        asking._lookups._most_threads = 4
        hung = [asyncio.create_task(patiently(asking, f"s.s{number}.test", BOUND)) for number in range(4)]
        await until(lambda: asking._lookups.stalled == 4, 10)

        with pytest.raises(LocalFault, match="too many name look-ups wait for name servers that do not answer"):
            await asking.look_up("good.example", 10)
        servers.release.set()
        assert (await asking.look_up("good.example", 10))[0] == ("192.0.2.1",)
        await leave(hung)
        asking.close()


async def test_time_in_line_counts_neither_for_the_timeout_nor_for_the_look_up() -> None:
    def lookup(host: str) -> list[str]:
        time.sleep(0.15)
        return ["192.0.2.1"]

    resolver = Resolver(lookup, threads=1)
    async with asyncio.timeout(BOUND):
        seconds = await asyncio.gather(*[patiently(resolver, f"{number}.test", 5) for number in range(6)])

    assert sum(seconds) < 6 * 0.15 * 2  # in line the last one alone waited five times as long
    resolver.close()
