"""A stream bounds what it holds and how long it waits."""

import asyncio

import httpx
import pytest

from fetcher.engine.transport.stream import Stream


class Peer:
    """Stands in for the event loop's transport: what a stream asks of it is noted down."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return "abort" in self.calls

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def stream(peer: Peer) -> Stream:
    stream = Stream("192.0.2.1:80")
    stream.connection_made(peer)  # type: ignore[arg-type]
    return stream


async def test_reading_pauses_while_much_waits_to_be_taken(stream: Stream, peer: Peer) -> None:
    stream.data_received(b"x" * 100_000)
    assert peer.calls == []
    stream.data_received(b"x" * 100_000)
    assert peer.calls == ["pause"]
    assert len(await stream.read(None)) == 200_000
    assert peer.calls == ["pause", "resume"]


async def test_what_came_before_the_end_is_still_read(stream: Stream) -> None:
    stream.data_received(b"last")
    stream.eof_received()
    stream.connection_lost(None)
    assert await stream.read(None) == b"last"
    assert await stream.read(None) == b""


async def test_what_came_before_a_failure_is_still_read(stream: Stream) -> None:
    stream.data_received(b"last")
    stream.connection_lost(ConnectionResetError())
    assert await stream.read(None) == b"last"
    with pytest.raises(ConnectionResetError):
        await stream.read(None)


async def test_closing_wakes_a_reader_with_a_failure(stream: Stream) -> None:
    reading = asyncio.create_task(stream.read(None))
    await asyncio.sleep(0)
    stream.close()
    with pytest.raises(ConnectionAbortedError):
        await reading


async def test_closing_twice_or_after_the_end_is_fine(stream: Stream, peer: Peer) -> None:
    stream.connection_lost(None)
    stream.close()
    stream.close()
    assert peer.calls == []


async def test_writing_goes_on_only_as_fast_as_the_peer_takes_it(stream: Stream, peer: Peer) -> None:
    stream.pause_writing()
    writing = asyncio.create_task(stream.write(b"x" * 150_000, None))
    await asyncio.sleep(0)
    assert [len(data) for data in peer.written] == [65536]
    stream.resume_writing()
    await writing
    assert sum(len(data) for data in peer.written) == 150_000


async def test_waits_are_bounded(stream: Stream) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await stream.read(0.001)
    stream.pause_writing()
    with pytest.raises(httpx.WriteTimeout):
        await stream.write(b"x", 0.001)


async def test_writing_to_a_closed_stream_fails(stream: Stream) -> None:
    stream.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await stream.write(b"x", None)
