"""Hosts that do not answer hold up no others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from fetcher.engine import slots
from fetcher.engine.runner import fetch_all
from fetcher.engine.types import Outcome, Status, Target
from tests.fetcher.engine.test_runner import BOUND, Network, config, fetched, target, targets


class Endless(httpx.AsyncByteStream):
    """A body that never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)


async def script(request: httpx.Request) -> httpx.Response:
    """Answer as the host's name says."""
    if request.url.host.startswith("silent"):
        await asyncio.sleep(2 * BOUND)
    if request.url.host.startswith("endless"):
        return httpx.Response(200, stream=Endless())
    await asyncio.sleep(0.001)
    return httpx.Response(200)


def good_and_bad(bad_hosts: int, bad_urls: int) -> list[Target]:
    bad = [
        one
        for sort in ("silent", "endless")
        for n in range(bad_hosts)
        for one in targets(bad_urls, f"{sort}{n}.example")
    ]
    mixed = [one for n in range(10) for one in targets(20, f"good{n}.example")] + bad
    random.Random(5).shuffle(mixed)
    return mixed


async def good_ones(source: list[Target], network: Network, count: int, **options: object) -> list[Outcome]:
    """Fetch until so many outcomes are here, while the others are in flight."""
    outcomes = fetch_all(source, config(**options), transport=network)
    async with asyncio.timeout(BOUND), aclosing(outcomes):  # type: ignore[type-var]
        return [await anext(outcomes) for _ in range(count)]


async def test_good_hosts_are_fetched_while_silent_and_endless_hosts_hold_their_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Today's timeouts end none of the bad requests meanwhile: there are more of them than slots."""
    monkeypatch.setattr(slots, "STUCK_SECONDS", 0.05)
    network = Network(script)
    outcomes = await good_ones(good_and_bad(9, 5), network, 200, concurrency=20, look_ahead=50)

    assert {outcome.target.host.startswith("good") for outcome in outcomes} == {True}
    assert {outcome.status for outcome in outcomes} == {Status.SUCCEEDED}
    assert network.peak <= 20
    assert max(peak for host, peak in network.peaks.items() if host.startswith("good")) > 1


async def test_retries_of_silent_hosts_come_after_hosts_that_waited_untried_before_them() -> None:
    async def no_answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "silent.example":
            raise httpx.ConnectTimeout("")
        return httpx.Response(200)

    network = Network(no_answer)
    source = [target("http://silent.example/"), *[target(f"http://h{number}.example/") for number in range(20)]]
    await fetched(source, network, concurrency=1, look_ahead=10)

    assert network.seen[0] == "http://silent.example/"
    assert network.seen.index("http://silent.example/", 1) > 9
    assert len(network.seen) == 20 + 4


async def test_source_is_read_on_while_what_was_read_waits_for_a_silent_host() -> None:
    async def no_answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "silent.example":
            raise httpx.ConnectTimeout("")
        return httpx.Response(200)

    source = [*targets(4, "silent.example"), *targets(20, "good.example")]
    patient = {"concurrency": 2, "look_ahead": 2, "backoff_base": 500, "backoff_max": 500}
    outcomes = await good_ones(source, Network(no_answer), 20, **patient)

    assert {outcome.target.host for outcome in outcomes} == {"good.example:80"}


async def test_source_is_read_no_further_than_twice_the_look_ahead_when_all_of_it_waits() -> None:
    pulled = 0

    async def no_answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("")

    async def source() -> AsyncIterator[Target]:
        nonlocal pulled
        for one in targets(100, "silent.example"):
            pulled += 1
            yield one

    patient = config(concurrency=2, look_ahead=5, backoff_base=500, backoff_max=500, host_failures=0)
    outcomes = fetch_all(source(), patient, transport=Network(no_answer))
    async with aclosing(outcomes):  # type: ignore[type-var]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(outcomes)
    assert 10 < pulled <= 20


async def test_a_host_that_failed_once_is_asked_again_long_before_the_end_of_a_list_of_other_hosts() -> None:
    """Each host of such a list is one of which nothing is known, and its end may be hours away."""

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "flaky.example" and len(network.began["flaky.example"]) == 1:
            raise httpx.ConnectError("reset")
        await asyncio.sleep(0.001)
        return httpx.Response(200)

    network = Network(answer)
    source = [target("http://flaky.example/"), *(target(f"http://h{number}.example/") for number in range(1000))]
    order = [outcome.target.host for outcome in await fetched(source, network, concurrency=10, backoff_base=0.001)]

    assert order.index("flaky.example:80") < 500
