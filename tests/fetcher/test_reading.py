"""Reading ahead in a thread: nothing lost, nothing held up, never too much."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from fetcher import reading
from fetcher.reading import BufferedReader
from fetcher.sources import Entry
from tests.support.waiting import until


def entries(count: int) -> list[Entry]:
    return [Entry("x", number, reason="r") for number in range(count)]


async def collected(reader: BufferedReader) -> list[Entry]:
    async with asyncio.timeout(5):
        return [entry async for batch in reader.batches() for entry in batch]


@pytest.fixture
async def gate() -> AsyncIterator[threading.Event]:
    """An event that a source may block on; open at the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("count", [0, 1, 999, 25_000])
async def test_everything_arrives_in_order(count: int) -> None:
    assert await collected(BufferedReader(entries(count))) == entries(count)


async def test_what_was_read_is_handed_out_while_the_source_blocks(gate: threading.Event) -> None:
    def source() -> Iterator[Entry]:
        yield from entries(3)
        gate.wait(5)
        yield from entries(2)

    reader = BufferedReader(source())
    async with asyncio.timeout(5), aclosing(reader.batches()) as batches:  # type: ignore[type-var]
        assert await anext(batches) == entries(3)
        gate.set()
        assert await anext(batches) == entries(2)
        assert [batch async for batch in batches] == []


async def test_no_batch_is_empty(gate: threading.Event) -> None:
    def source() -> Iterator[Entry]:
        for one in entries(3):
            yield one
            gate.wait(0.06)

    async with asyncio.timeout(5):
        assert all([batch async for batch in BufferedReader(source()).batches()])


async def test_no_more_is_read_ahead_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CAPACITY", 10)
    pulled = 0

    def source() -> Iterator[Entry]:
        nonlocal pulled
        for one in entries(100):
            pulled += 1
            yield one

    reader = BufferedReader(source())
    async with asyncio.timeout(5), aclosing(reader.batches()) as batches:  # type: ignore[type-var]
        taken = await anext(batches)
        await asyncio.sleep(0.05)
        assert pulled <= len(taken) + 11  # those in the buffer, and one in hand
        for_the_rest = [entry async for batch in batches for entry in batch]

    assert taken + for_the_rest == entries(100)


async def test_an_error_comes_after_everything_before_it() -> None:
    def source() -> Iterator[Entry]:
        yield from entries(3)
        raise OSError("disk gone")

    batches = BufferedReader(source()).batches()
    async with asyncio.timeout(5):
        assert await anext(batches) == entries(3)
        with pytest.raises(OSError, match="disk gone"):
            await anext(batches)


async def test_stopping_lets_the_thread_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CAPACITY", 10)
    closed = threading.Event()

    def source() -> Iterator[Entry]:
        try:
            while True:
                yield from entries(1)
        finally:
            closed.set()

    reader = BufferedReader(source())
    async with asyncio.timeout(5), aclosing(reader.batches()) as batches:  # type: ignore[type-var]
        await anext(batches)
    reader.stop()

    await until(closed.is_set)
