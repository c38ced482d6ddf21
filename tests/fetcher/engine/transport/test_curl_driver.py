"""No server holds the event loop through libcurl, however it frames what it sends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from socket import create_server, socket

import httpx
import pytest

from fetcher.engine.transport.libcurl import LibcurlTransport
from tests.fetcher.engine.transport.loopback import Handler, Serve, Server, fetch, ok

HOSTILE = 10
"""Connections at once."""
WINDOW_SECONDS = 0.5
MOST_STILL_SECONDS = 0.05
TRIES = 3

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BEHAVIOURS = {
    "chunks of one byte": (CHUNKED, b"1\r\nx\r\n"),
    "chunks of one byte with an extension": (CHUNKED, b"1;a=b\r\nx\r\n"),
    "chunks with long extensions": (CHUNKED, b"1;a=" + b"b" * 4000 + b"\r\nx\r\n"),
    "an extension without end": (CHUNKED + b"1;a=", b"b" * 1000),
    "a body without end": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000),
    "interim answers without end": (b"", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n"),
    "fields without end": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "trailers without end": (CHUNKED + b"0\r\n", b"a: b\r\n"),
}


@pytest.fixture(params=["libcurl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def sending_for_ever(head: bytes, piece: bytes) -> Iterator[str]:
    """Answer each connection with a head and then the same piece again and again, in threads."""
    many = piece * (60_000 // len(piece))

    def answer(connection: socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(head)
            while True:
                connection.sendall(many)

    with create_server(("127.0.0.1", 0), backlog=HOSTILE) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


class Heart:
    """Beats each millisecond; ``longest`` is the most processor time, in seconds, that passed between two beats."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._beat(time.thread_time())

    def _beat(self, before: float) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - before)
        self._next = asyncio.get_running_loop().call_later(0.001, self._beat, now)

    def stop(self) -> None:
        self._next.cancel()


async def read_all(transport: LibcurlTransport, url: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        async for _ in response.stream:
            pass


async def longest_still(transport: LibcurlTransport, hostile: str, good: Server) -> float:
    """Return for how long the loop was kept by one turn, while good requests must go through."""
    heart = Heart()
    tasks = [asyncio.create_task(read_all(transport, hostile)) for _ in range(HOSTILE)]
    until = time.monotonic() + WINDOW_SECONDS
    answered = 0
    while time.monotonic() < until or answered < 2:
        assert (await fetch(transport, httpx.Request("GET", good.url())))[1] == b"hello"
        answered += 1
        await asyncio.sleep(0.01)
    heart.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return heart.longest


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_no_server_keeps_the_loop_from_its_other_tasks(
    serve: Serve, transport: LibcurlTransport, name: str
) -> None:
    good = await serve(ok())
    await fetch(transport, httpx.Request("GET", good.url()))
    still = []
    with sending_for_ever(*BEHAVIOURS[name]) as url:
        while len(still) < TRIES and min(still, default=1.0) >= MOST_STILL_SECONDS:
            still.append(await longest_still(transport, url, good))
    assert min(still) < MOST_STILL_SECONDS
    assert transport._driver.running == []


async def test_small_pieces_of_a_body_are_bounded_and_arrive_whole(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(CHUNKED + b"".join(b"1\r\n%c\r\n" % (97 + n % 26) for n in range(50_000)) + b"0\r\n\r\n")
    response = await transport.handle_async_request(httpx.Request("GET", server.url()))
    await asyncio.sleep(0.1)
    (transfer,) = transport._transfers
    assert len(transfer.chunks) <= 256
    assert isinstance(response.stream, httpx.AsyncByteStream)
    pieces = [piece async for piece in response.stream]
    assert b"".join(pieces) == bytes(97 + n % 26 for n in range(50_000))
    assert len(pieces) < 1000


def dripping(head: bytes, seconds: float) -> object:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            for byte in head:
                writer.write(bytes([byte]))
                await asyncio.sleep(seconds)
            await reader.read()

        return handle

    return handler


def patient(server: Server, read: float) -> httpx.Request:
    return httpx.Request("GET", server.url(), extensions={"timeout": {"connect": 5.0, "read": read, "write": read}})


async def test_bytes_of_a_line_that_is_not_complete_are_progress(serve: Serve, transport: LibcurlTransport) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Long: and slow\r\nContent-Length: 0\r\n\r\n"
    server = await serve(handler=dripping(head, 0.1))
    assert (await fetch(transport, patient(server, 1.5)))[0].status_code == 200


async def test_a_head_that_stops_half_way_is_a_read_timeout(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(handler=dripping(b"HTTP/1.1 200", 0.0))
    with pytest.raises(httpx.ReadTimeout):
        await fetch(transport, patient(server, 0.3))
