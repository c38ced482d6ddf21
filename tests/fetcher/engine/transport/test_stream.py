"""A stream bounds how long it waits, and nothing on it is overlooked."""

import asyncio
import socket
from collections.abc import Iterator

import httpcore
import httpx
import pytest

from fetcher.engine.transport.stream import Stream


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: a stream's, and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def peer(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[1]


@pytest.fixture
async def stream(ends: tuple[socket.socket, socket.socket]) -> Stream:
    return Stream(ends[0], "192.0.2.1:80")


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()


async def test_what_came_before_the_end_is_still_read(stream: Stream, peer: socket.socket) -> None:
    peer.sendall(b"last")
    peer.close()
    assert await stream.read(100) == b"last"
    assert await stream.read(100) == b""
    assert stream.received == 4


async def test_a_reset_is_no_end(stream: Stream, peer: socket.socket) -> None:
    reset(peer)
    with pytest.raises(ConnectionResetError):
        await stream.read(100)


async def test_waits_are_bounded(stream: Stream) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await stream.read(100, 0.001)
    with pytest.raises(httpx.WriteTimeout):
        await stream.write(b"x" * 50_000_000, 0.05)


async def test_a_peer_that_is_gone_is_a_write_error(stream: Stream, peer: socket.socket) -> None:
    reset(peer)
    with pytest.raises(httpcore.WriteError):
        await stream.write(b"x" * 50_000_000, 5)


async def test_closing_wakes_a_reader_with_a_failure(stream: Stream, peer: socket.socket) -> None:
    reading = asyncio.create_task(stream.read(100))
    await asyncio.sleep(0.01)
    stream.close()
    with pytest.raises(httpx.ReadError, match="closed on this side"):
        await reading
    assert peer.recv(100) == b""


async def test_closing_twice_is_fine_and_nothing_is_read_afterwards(stream: Stream, peer: socket.socket) -> None:
    peer.sendall(b"late")
    stream.close()
    stream.close()
    with pytest.raises(httpx.ReadError, match="closed on this side"):
        await stream.read(100)
    with pytest.raises(httpx.ReadError, match="closed on this side"):
        await stream.write(b"x")


async def test_a_stream_is_quiet_until_something_comes(stream: Stream, peer: socket.socket) -> None:
    assert stream.is_quiet
    peer.sendall(b"x")
    assert not stream.is_quiet
    assert await stream.read(100) == b"x"
    assert stream.is_quiet


@pytest.mark.parametrize("end", ["closed", "half-closed", "reset", "closed here"])
async def test_a_stream_that_ended_is_not_quiet(stream: Stream, peer: socket.socket, end: str) -> None:
    if end == "closed here":
        stream.close()
    elif end == "half-closed":
        peer.shutdown(socket.SHUT_WR)
    else:
        (reset if end == "reset" else socket.socket.close)(peer)
    assert not stream.is_quiet


async def test_a_fast_peer_lets_the_loop_turn_at_each_read(stream: Stream, peer: socket.socket) -> None:
    peer.sendall(b"x" * 1000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    for _ in range(1000):
        assert await stream.read(1) == b"x"
    counting.cancel()
    assert turns >= 1000
