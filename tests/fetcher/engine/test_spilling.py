"""Large answers on their way into temporary files: in which form they come, and that none is left behind."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest

from fetcher.demo.origin import Origin
from fetcher.engine.bodies import SpilledBody, Spilling
from fetcher.engine.client import Client, Exchange, Hop
from fetcher.engine.codings import zstd
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.errors import ErrorKind, FetchError, SpillFailed
from fetcher.engine.runner import fetch_all
from fetcher.engine.transport.messages import WholeBody
from fetcher.engine.types import Outcome, Status
from fetcher.engine.urls import parse_url
from tests.fetcher.engine.test_runner import LOOPBACK, Network, config, target, targets
from tests.support.descriptors import open_files
from tests.support.small_disk import CannotMount, small_disk
from tests.support.waiting import until

THRESHOLD = 2**16
CONTENT = random.Random(1).randbytes(2**17) + b"text " * 2**17
PACKED = {
    "": CONTENT,
    "gzip": gzip.compress(CONTENT),
    "deflate": zlib.compress(CONTENT),
    "br": brotli.compress(CONTENT, quality=1),
    "zstd": zstd.compress(CONTENT),
}


class Pieces(httpx.AsyncByteStream):
    """A body in pieces of 8 KiB; then ``last`` is awaited."""

    def __init__(self, content: bytes, last: Callable[[], Any] = lambda: asyncio.sleep(0)) -> None:
        self._content = content
        self._last = last

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 2**13):
            await asyncio.sleep(0)
            yield self._content[start : start + 2**13]
        await self._last()


@pytest.fixture
async def spilling(tmp_path: Path) -> AsyncIterator[Spilling]:
    async with Spilling(THRESHOLD, str(tmp_path)) as made:
        yield made


async def read(
    stream: httpx.AsyncByteStream, spilling: Spilling | None, *, coding: str = "", budget: float = 10, **options: Any
) -> bytes | SpilledBody | None:
    """Read an answer's body."""
    response = httpx.Response(200, headers={"Content-Encoding": coding} if coding else {}, stream=stream)
    client = Client(httpx.MockTransport(lambda _: response), FetchConfig(**options), spilling)
    exchange = Exchange()
    await client.send(Hop(parse_url("http://a.example/"), "GET", ()), exchange, budget=budget)
    return exchange.body


async def breaks() -> None:
    raise httpx.ReadError("connection lost")


class TestAnAnswer:
    @pytest.mark.parametrize("coding", PACKED)
    async def test_above_the_threshold_is_in_a_file_decoded(self, coding: str, spilling: Spilling) -> None:
        body = await read(Pieces(PACKED[coding]), spilling, coding=coding)

        assert isinstance(body, SpilledBody)
        assert len(body) == len(CONTENT)
        assert body.read() == CONTENT

    @pytest.mark.parametrize(("more", "spilled"), [(0, False), (1, True)])
    async def test_of_just_the_threshold_is_in_memory(self, more: int, spilled: bool, spilling: Spilling) -> None:
        body = await read(Pieces(CONTENT[: THRESHOLD + more]), spilling)

        assert isinstance(body, SpilledBody) is spilled

    async def test_that_came_whole_stays_where_it_is(self, spilling: Spilling) -> None:
        content = bytes(2 * THRESHOLD)

        assert await read(WholeBody(content), spilling) is content

    async def test_that_came_whole_and_expands_does_not(self, spilling: Spilling) -> None:
        body = await read(WholeBody(PACKED["gzip"]), spilling, coding="gzip")

        assert isinstance(body, SpilledBody)
        assert body.read() == CONTENT

    @pytest.mark.parametrize("coding", ["", "gzip"])
    async def test_is_never_in_memory_whole(self, coding: str, spilling: Spilling) -> None:
        piece = bytes(2**18)
        packed = gzip.compress(piece * 256) if coding else b""

        class Large(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                if packed:
                    yield packed
                else:
                    for _ in range(256):
                        yield piece

        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            body = await read(Large(), spilling, coding=coding, max_body=2**30)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

        assert isinstance(body, SpilledBody)
        assert len(body) == 2**26
        assert peak < 2**22

    @pytest.mark.parametrize(
        ("stream", "options", "kind"),
        [
            (Pieces(CONTENT), {"max_body": 2 * THRESHOLD}, ErrorKind.TOO_LARGE),
            (Pieces(PACKED["gzip"][:-5]), {"coding": "gzip"}, ErrorKind.DECODING),
            (Pieces(CONTENT, breaks), {}, ErrorKind.PROTOCOL),
            (Pieces(CONTENT, lambda: asyncio.sleep(60)), {"budget": 0.2}, ErrorKind.TIMEOUT),
        ],
        ids=["too large", "cut off", "broken", "out of time"],
    )
    async def test_that_fails_leaves_no_file(
        self, stream: Pieces, options: dict[str, Any], kind: ErrorKind, spilling: Spilling, tmp_path: Path
    ) -> None:
        with pytest.raises(FetchError) as raised:
            await read(stream, spilling, **options)

        assert raised.value.kind is kind
        await until(lambda: open_files(tmp_path) == [])

    async def test_that_is_cancelled_leaves_none_either(self, spilling: Spilling, tmp_path: Path) -> None:
        reading = asyncio.ensure_future(read(Pieces(CONTENT, lambda: asyncio.sleep(60)), spilling))
        await until(lambda: open_files(tmp_path) != [])
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

        await until(lambda: open_files(tmp_path) == [])

    async def test_without_a_place_to_go_stays_in_memory(self) -> None:
        assert await read(Pieces(CONTENT), None) == CONTENT


def answering(*statuses: int, content: bytes = CONTENT, **headers: str) -> Network:
    """Answer with these statuses, one after the other, the last for ever, always with the same body."""
    left = list(statuses)

    async def script(request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, headers=headers, stream=Pieces(content))

    return Network(script)


class TestAFetch:
    async def test_keeps_the_last_answer_of_a_target_and_no_other(self, spilling: Spilling, tmp_path: Path) -> None:
        """Also while it waits for its next attempt."""
        (outcome,) = [one async for one in fetch_all(
            targets(1), config(max_attempts=3), transport=answering(503), spilling=spilling
        )]  # fmt: skip

        assert (outcome.status, len(outcome.attempts)) == (Status.FAILED, 3)
        assert isinstance(outcome.body, SpilledBody)
        assert outcome.body.read() == CONTENT
        assert len(open_files(tmp_path)) == 1

    async def test_keeps_none_of_what_is_tried_again(self, spilling: Spilling, tmp_path: Path) -> None:
        network = answering(503, **{"Retry-After": "60"})
        outcomes = fetch_all(targets(20), config(max_attempts=2), transport=network, spilling=spilling)
        async with aclosing(outcomes):  # type: ignore[type-var]
            taking = asyncio.ensure_future(anext(outcomes))
            await until(lambda: bool(network.seen) and network.in_flight == 0 and not open_files(tmp_path))
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking

    async def test_keeps_none_of_a_redirect(self, spilling: Spilling, tmp_path: Path) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/0":
                return httpx.Response(302, headers={"Location": "/end"}, stream=Pieces(CONTENT))
            return httpx.Response(200, stream=Pieces(b"end"))

        (outcome,) = [
            one async for one in fetch_all(targets(1), config(), transport=Network(script), spilling=spilling)
        ]

        assert outcome.body == b"end"
        assert open_files(tmp_path) == []

    @pytest.mark.parametrize("taken", [0, 1, 3])
    async def test_that_is_left_early_has_no_file_left(self, taken: int, tmp_path: Path) -> None:
        async with Spilling(THRESHOLD, str(tmp_path)) as spilling:
            outcomes = fetch_all(targets(50), config(concurrency=4), transport=answering(200), spilling=spilling)
            async with aclosing(outcomes):  # type: ignore[type-var]
                for _ in range(taken):
                    await anext(outcomes)
                waiting = asyncio.ensure_future(anext(outcomes))
                await until(lambda: bool(open_files(tmp_path)))
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        assert open_files(tmp_path) == []

    async def test_that_is_stopped_has_only_those_of_its_outcomes(self, spilling: Spilling, tmp_path: Path) -> None:
        control = Control()
        found: list[Outcome] = []
        async for outcome in fetch_all(
            targets(50), config(concurrency=4), transport=answering(200), spilling=spilling, control=control,
            left=lambda target, tried: None,
        ):  # fmt: skip
            found.append(outcome)
            control.stop()

        assert 1 <= len(found) < 50
        assert len(open_files(tmp_path)) == len(found)

    async def test_over_real_connections_gives_the_same_bytes(
        self, origin: Origin, spilling: Spilling, tmp_path: Path
    ) -> None:
        urls = [f"/big/{number}?bytes=3000000&declared={number % 2}" for number in range(6)]
        source = [target(origin.url(f"{path}")) for path in [*urls, "/gzip-bomb?bytes=3000000", "/ok/1"]]
        found = [one async for one in fetch_all(source, config(allowed_networks=LOOPBACK), spilling=spilling)]

        bodies = [one.body for one in found if isinstance(one.body, SpilledBody)]
        assert {one.status for one in found} == {Status.SUCCEEDED}
        assert [len(body) for body in bodies] == [3_000_000] * 7
        assert len({hashlib.sha256(body.read()).digest() for body in bodies}) == 2
        assert len(open_files(tmp_path)) == 7


class TestAFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Any:
        try:
            with small_disk(tmp_path / "spill", 1) as folder:
                yield folder
        except CannotMount as exc:
            pytest.skip(str(exc))

    async def test_ends_the_fetch_with_one_clear_reason(self, disk: Path) -> None:
        async def take(spilling: Spilling) -> None:
            network = answering(200, content=bytes(2**21))
            outcomes = fetch_all(targets(20), config(concurrency=4), transport=network, spilling=spilling)
            async with aclosing(outcomes):  # type: ignore[type-var]
                async for _ in outcomes:
                    pass

        async with Spilling(THRESHOLD, str(disk)) as spilling:
            with pytest.raises(SpillFailed, match=f"cannot be kept in {disk}: No space left on device; make room"):
                await take(spilling)
        assert open_files(disk) == []
