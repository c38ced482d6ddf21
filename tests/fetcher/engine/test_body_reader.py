"""Hostile bodies cost their own target only: the loop runs on, deadlines hold, memory stays bounded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from fetcher.engine import body_reader
from fetcher.engine.bodies import SpilledBody, Spilling
from fetcher.engine.body_reader import BodyReader
from fetcher.engine.client import Client, Exchange, Hop
from fetcher.engine.config import FetchConfig
from fetcher.engine.decoding import read_codings
from fetcher.engine.errors import DecodingFailed, ErrorKind, FetchError, TooLarge
from fetcher.engine.transport.messages import WholeBody
from fetcher.engine.urls import parse_url
from tests.support.descriptors import open_files
from tests.support.hostile_bodies import HOSTILE, MIB, brotli_maps, hostile_body
from tests.support.packing import gzipped
from tests.support.stillness import Stillness, watched_stillness
from tests.support.waiting import until

STILL_SECONDS = 0.05
LIMIT = 10 * MIB


class Chunks(httpx.AsyncByteStream):
    """A body that is there at once, in small chunks."""

    def __init__(self, data: bytes, size: int = 1) -> None:
        self._data = data
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), self._size):
            yield self._data[start : start + self._size]


def client(coding: str, raw: bytes, spilling: Spilling | None = None) -> Client:
    headers = {"Content-Encoding": coding}
    handler = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=WholeBody(raw)))
    return Client(handler, FetchConfig(), spilling)


async def send(sender: Client, budget: float = 60) -> Exchange:
    exchange = Exchange()
    await sender.send(Hop(parse_url("http://a.example/"), "GET", ()), exchange, budget=budget)
    return exchange


async def kind_of(sender: Client) -> ErrorKind | None:
    """Return the kind of failure, None for none."""
    try:
        await send(sender)
    except FetchError as exc:
        return exc.kind
    return None


async def stillness_of(name: str, times: int) -> Stillness:
    """Fetch a hostile body so many times at once, each of which must fail, and measure the loop."""
    sender = client(*hostile_body(name))
    with watched_stillness() as found:
        kinds = await asyncio.gather(*(kind_of(sender) for _ in range(times)))
    assert set(kinds) <= {ErrorKind.DECODING, ErrorKind.TOO_LARGE}
    return found


class TestHostileBodies:
    @pytest.mark.parametrize("name", HOSTILE)
    async def test_hostile_body_fails_and_never_holds_the_loop(self, name: str) -> None:
        tries = [await stillness_of(name, 1)]
        while tries[-1].in_process > STILL_SECONDS and len(tries) < 5:  # a busy machine: see Stillness
            tries.append(await stillness_of(name, 1))

        assert max(one.on_loop for one in tries) < STILL_SECONDS
        assert min(one.in_process for one in tries) < STILL_SECONDS

    @pytest.mark.parametrize("name", ["brotli bomb", "gzip bomb", "zstd bomb", "brotli maps", "empty zstd frames"])
    async def test_many_hostile_bodies_at_once_never_hold_the_loop(self, name: str) -> None:
        found = await stillness_of(name, 10)

        assert found.on_loop < STILL_SECONDS

    @pytest.mark.parametrize("name", ["deflate tables", "brotli maps"])
    async def test_body_that_decodes_too_slowly_is_refused(self, name: str) -> None:
        with pytest.raises(DecodingFailed, match="takes too long to decode"):
            await send(client(*hostile_body(name)))


class TestDeadlines:
    @pytest.fixture
    def endless(self, monkeypatch: pytest.MonkeyPatch) -> tuple[str, bytes]:
        """A body that takes some 20 s to decode, and no bound on that but the deadline."""
        monkeypatch.setattr(body_reader, "_FREE_SECONDS", 1000)
        return "br, gzip", gzipped(brotli_maps(120_000))

    async def test_small_bodies_are_answered_while_others_are_decoded(self, endless: tuple[str, bytes]) -> None:
        endless_ones = [asyncio.create_task(send(client(*endless))) for _ in range(4)]
        small = client("gzip", gzipped(b"small" * 1000))
        for _ in range(20):
            assert (await send(small)).body == b"small" * 1000
            await asyncio.sleep(0)

        assert not any(task.done() for task in endless_ones)
        for task in endless_ones:
            task.cancel()
        await asyncio.gather(*endless_ones, return_exceptions=True)

    async def test_deadline_ends_an_attempt_while_its_body_is_decoded(self, endless: tuple[str, bytes]) -> None:
        sender = client(*endless)
        late = 60.0
        for _ in range(3):  # the best of several tries, for the machine may be busy
            began = time.monotonic()
            with pytest.raises(FetchError, match=r"the answer was not complete when the time .* was up") as caught:
                await send(sender, budget=0.2)
            late = min(late, time.monotonic() - began - 0.2)

        assert (caught.value.kind, caught.value.retryable) == (ErrorKind.TIMEOUT, True)
        assert late < 0.5

    async def test_thread_stops_decoding_once_the_attempt_has_ended(self, endless: tuple[str, bytes]) -> None:
        """Else the next body would wait for it."""
        for _ in range(4):
            with pytest.raises(FetchError):
                await send(client(*endless), budget=0.1)

        # As soon as both threads are free again: more work than the event loop would do itself.
        exchange = await send(client("gzip, gzip", gzipped(gzipped(b"next"))), budget=5)
        assert exchange.body == b"next"

    async def test_cancellation_while_decoding_leaves_no_file(self, endless: tuple[str, bytes], tmp_path: Path) -> None:
        del endless
        raw = gzipped(bytes(2 * MIB) + b"x") + gzipped(brotli_maps(80)) * 5000
        async with Spilling(MIB, str(tmp_path)) as spilling:
            sending = asyncio.create_task(send(client("gzip", raw, spilling)))
            await until(lambda: bool(open_files(tmp_path)) or sending.done())
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await until(lambda: open_files(tmp_path) == [])
        assert open_files(tmp_path) == []


class TestBodies:
    @pytest.mark.parametrize("coding", ["", "gzip"])
    async def test_body_in_small_chunks_is_joined(self, coding: str) -> None:
        content = bytes(range(256)) * 40
        reader = BodyReader(LIMIT, None)
        if coding:
            body = await reader.read_decoded(Chunks(gzipped(content)), read_codings([coding])[0])
        else:
            body = await reader.read(Chunks(content), "")

        assert body == content

    async def test_body_in_small_chunks_never_holds_the_loop(self) -> None:
        with watched_stillness() as found:
            await BodyReader(LIMIT, None).read(Chunks(bytes(MIB)), "")

        assert found.on_loop < STILL_SECONDS

    async def test_large_body_is_decoded_off_the_loop(self) -> None:
        """Both the time for one body and that for all of a turn are short."""
        content = bytes(8 * MIB)
        sender = client("gzip", gzipped(content))
        with watched_stillness() as found:
            exchanges = await asyncio.gather(*(send(sender) for _ in range(10)))

        assert {exchange.body for exchange in exchanges} == {content}
        assert found.on_loop < STILL_SECONDS

    async def test_small_body_is_decoded_without_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(process: int) -> None:
            raise AssertionError("a thread was asked for")

        monkeypatch.setattr(body_reader, "_threads", refuse)

        assert (await send(client("gzip", gzipped(b"small")))).body == b"small"

    async def test_encoded_body_over_the_limit_is_refused_before_it_is_decoded(self) -> None:
        with pytest.raises(TooLarge, match="larger than 1000 bytes"):
            await BodyReader(1000, None).read_decoded(Chunks(bytes(2**17), 1000), ["gzip"])

    async def test_encoded_body_over_the_threshold_is_decoded_from_its_file(self, tmp_path: Path) -> None:
        content = bytes(range(256)) * 4096
        raw = b"".join(gzipped(content[start : start + 512]) for start in range(0, len(content), 512))
        assert len(raw) > 2**17
        async with Spilling(2**17, str(tmp_path)) as spilling:
            body = await BodyReader(LIMIT, spilling).read_decoded(Chunks(raw, 2**16), ["gzip"])

            assert isinstance(body, SpilledBody)
            assert body.read() == content
            await until(lambda: len(open_files(tmp_path)) == 1)
        assert open_files(tmp_path) == []


_MEASURE = """
import asyncio, gc, sys
from pathlib import Path
from tests.fetcher.engine.test_body_reader import client, kind_of
from tests.support.hostile_bodies import hostile_body

def kib(name):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])

async def main():
    sender = client(*hostile_body(sys.argv[1]))
    gc.disable()  # what only the cycle collector frees may stay for long
    Path("/proc/self/clear_refs").write_text("5")
    before = kib("VmRSS")
    kinds = await asyncio.gather(*(kind_of(sender) for _ in range(int(sys.argv[2]))))
    assert None not in kinds
    print((kib("VmHWM") - before) // 1024)

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not reset a process's peak")
@pytest.mark.parametrize(("times", "most"), [(1, 64), (50, 256)])
@pytest.mark.parametrize("name", ["brotli bomb", "brotli bomb in brotli", "gzip bomb", "zstd bomb"])
def test_hostile_bodies_take_bounded_memory(name: str, times: int, most: int) -> None:
    """In MiB, in a process of its own, since brotli and zstd allocate what Python does not see."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, name, str(times)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )

    assert int(done.stdout) <= most
