"""The portable transport holds its peers to bounds: of size, of number, and of the event loop's time."""

import asyncio
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.transport import WIRE, ConnectionOptions, PreparedRequest, Wire, open_transport
from fetcher.engine.transport.http1 import MAX_HEAD_BYTES, MAX_HEAD_LINES, MAX_INTERIM_ANSWERS, MAX_STATUS_LINE_BYTES
from fetcher.engine.urls import parse_url
from tests.fetcher.engine.transport.loopback import Handler, Serve, Server, Transport, fetch, ok

MAX_STILL_SECONDS = 0.05
MAX_LATE_SECONDS = 0.5
DEADLINE_SECONDS = 0.3
TRIES = 3

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HOSTILE = {
    "one-byte chunks": (CHUNKED, b"1\r\nx\r\n" * 5000),
    "one-byte chunks with extensions": (CHUNKED, b"1;aaaaaaaaaaaaaaa\r\nx\r\n" * 2500),
    "endless 100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "endless 103": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2000),
    "endless body": (HEAD + b"\r\n", b"x" * 65536),
    "endless header lines": (HEAD, b"a:\r\n" * 5000),
    "endless header line": (HEAD + b"a: ", b"x " * 5000),
    "endless reason": (b"HTTP/1.1 200 ", b"x " * 5000),
    "endless trailers": (CHUNKED + b"0\r\n", b"a:\r\n" * 5000),
    "endless chunk size": (CHUNKED, b"0" * 20000),
    "endless folded lines": (HEAD + b"a: x\r\n", b" x\r\n" * 5000),
}


@pytest.fixture
def kind() -> str:
    return "httpx"


@pytest.fixture
def send_for_ever() -> Iterator[Callable[[bytes, bytes], int]]:
    """Start servers in threads of their own: a request is answered with some bytes, and others again and again."""
    listening: list[socket.socket] = []

    def start(first: bytes, again: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)
        threading.Thread(target=accept, args=(server, first, again), daemon=True).start()
        return int(server.getsockname()[1])

    def accept(server: socket.socket, first: bytes, again: bytes) -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(peer, first, again), daemon=True).start()

    def answer(peer: socket.socket, first: bytes, again: bytes) -> None:
        with peer:
            try:
                peer.recv(65536)
                peer.sendall(first)
                for _ in itertools.count():
                    peer.sendall(again)
            except OSError:
                pass

    yield start
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


async def stillness(work: asyncio.Future[object]) -> float:
    """Return for how long the loop did not turn at most, in seconds of this thread's CPU, until ``work`` is done."""
    worst = 0.0
    while not work.done():
        before = time.thread_time()
        await asyncio.sleep(0.001)
        worst = max(worst, time.thread_time() - before)
    return worst


async def read_until(deadline: float, transport: Transport, port: int) -> float:
    """Fetch and return by how many seconds that took longer than ``deadline``."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(deadline):
            await fetch(transport, httpx.Request("GET", f"http://127.0.0.1:{port}/"))
    except (TimeoutError, httpx.TransportError):
        pass
    return time.monotonic() - began - deadline


@pytest.mark.parametrize("peers", [1, 20])
@pytest.mark.parametrize("name", HOSTILE)
async def test_no_peer_holds_the_loop_or_outlives_its_deadline(
    transport: Transport, send_for_ever: Callable[[bytes, bytes], int], name: str, peers: int
) -> None:
    port = send_for_ever(*HOSTILE[name])
    stills, lates = [], []
    for _ in range(TRIES):  # the best of them, for the machine may be busy
        reading = asyncio.gather(*[read_until(DEADLINE_SECONDS, transport, port) for _ in range(peers)])
        stills.append(await stillness(reading))
        lates.append(max(await reading))
    assert min(stills) < MAX_STILL_SECONDS
    assert min(lates) < MAX_LATE_SECONDS


async def test_chunks_of_one_byte_arrive_joined(serve: Serve, transport: Transport) -> None:
    server = await serve(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
    response = await transport.handle_async_request(httpx.Request("GET", server.url()))
    pieces = [chunk async for chunk in response.stream]  # type: ignore[union-attr]
    assert b"".join(pieces) == b"x" * 10_000
    assert len(pieces) < 1000


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"a:\r\n" * (MAX_HEAD_LINES + 2048) + b"\r\n",
        HEAD + b"a: " + b"x" * (MAX_HEAD_BYTES + 5000) + b"\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 " + b"x" * (MAX_STATUS_LINE_BYTES + 5000) + b"\r\n\r\n",
        CHUNKED + b"0\r\n" + b"a: " + b"x" * (MAX_HEAD_BYTES + 40_000) + b"\r\n\r\n",
        CHUNKED + b"1;" + b"x" * (MAX_HEAD_BYTES + 40_000) + b"\r\nx\r\n0\r\n\r\n",
    ],
    ids=["lines", "bytes", "status line", "trailer", "chunk extension"],
)
async def test_a_head_is_bounded(serve: Serve, transport: Transport, answer: bytes) -> None:
    server = await serve(answer)
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the head of the answer is too long$"):
        await fetch(transport, httpx.Request("GET", server.url()))


async def test_another_protocol_is_refused_although_the_request_asks_for_it(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
    request = httpx.Request("GET", server.url(), headers={"Connection": "upgrade", "Upgrade": "other"})
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the server switched protocols \(101\)$"):
        await fetch(transport, request)


async def test_interim_answers_are_counted(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM_ANSWERS + 1) + ok())
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the server sent more than 32 interim answers"):
        await fetch(transport, httpx.Request("GET", server.url()))


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"a: b\r\n" * (MAX_HEAD_LINES - 10) + b"Content-Length: 2\r\n\r\nok",
        HEAD + b"a: " + b"x" * (MAX_HEAD_BYTES - 1000) + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * MAX_INTERIM_ANSWERS + ok(b"ok"),
        HEAD + b"Content-Length: 2\r\n\r\nok",
    ],
    ids=["lines", "bytes", "interim answers", "small"],
)
async def test_a_head_within_the_bounds_is_read(serve: Serve, transport: Transport, answer: bytes) -> None:
    server = await serve(answer)
    for _ in range(2):
        assert (await fetch(transport, httpx.Request("GET", server.url())))[1] == b"ok"


async def test_lines_of_a_body_are_not_counted(serve: Serve, transport: Transport) -> None:
    lines = b"\n" * 100_000
    server = await serve(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(lines), lines))
    assert (await fetch(transport, httpx.Request("GET", server.url())))[1] == lines


@pytest.mark.parametrize("status", [b"000", b"099", b"20", b"2000", b"20000000000000000000000", b"+20", b"2 0", b"abc"])
async def test_a_status_that_is_not_three_digits_is_refused(serve: Serve, transport: Transport, status: bytes) -> None:
    server = await serve(b"HTTP/1.1 %s X\r\nContent-Length: 0\r\n\r\n" % status)
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the answer is not valid HTTP/1\.1: "):
        await fetch(transport, httpx.Request("GET", server.url()))


@pytest.mark.parametrize("path", ["/a%2fb", "/a%2Fb", "/", "/?a=%2f", "/a|b[c]d'e?f|", "//a//b", "/%7euser"])
async def test_the_target_is_sent_as_it_was_given(serve: Serve, transport: Transport, path: str) -> None:
    server = await serve(ok())
    url = parse_url(server.url(path))
    assert url.href.endswith(path)
    await fetch(transport, PreparedRequest("GET", url, (), None, {}))
    assert server.requests[0].split(b" ")[1].decode() == url.href.partition(f":{server.port}")[2]


@pytest.mark.parametrize(
    ("method", "content", "given"),
    [
        ("GET", None, ()),
        ("POST", None, ()),
        ("POST", b"abc", ((b"X-One", b"1"),)),
        ("DELETE", b"abc", ((b"content-length", b"3"),)),
        ("PUT", b"", ((b"host", b"other.test"),)),
    ],
)
async def test_a_prepared_request_is_sent_with_the_headers_that_it_shows(
    serve: Serve, transport: Transport, method: str, content: bytes | None, given: tuple[tuple[bytes, bytes], ...]
) -> None:
    server = await serve(ok())
    request = PreparedRequest(method, parse_url(server.url()), given, content, {})
    await fetch(transport, request)
    sent = [tuple(line.split(b": ", 1)) for line in server.requests[0].split(b"\r\n")[1:-2]]
    assert sorted(sent) == sorted(request.headers.raw)


async def test_an_unsafe_request_gets_a_new_connection(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)  # and closes without a word to whoever sends on it again
            writer.write(ok())
            await reader.read(1)

        return handle

    server = await serve(handler=handler)
    for method, content in (("GET", None), ("POST", b"x"), ("POST", None)):
        request = httpx.Request(method, server.url(), content=content, extensions={WIRE: Wire()})
        assert (await fetch(transport, request))[0].status_code == 200
        assert not request.extensions[WIRE].reused
    assert len(server.requests) == 3


async def test_headers_are_not_logged_at_any_level(
    serve: Serve, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(ok(b"body", b"Set-Cookie: s3cret"))
    with caplog.at_level(logging.DEBUG):
        await fetch(transport, httpx.Request("GET", server.url(), headers={"Authorization": "s3cret"}))
    assert "s3cret" not in caplog.text


async def test_an_answer_counts_when_the_server_breaks_off_the_request(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)  # what follows is left unread, so that closing resets the connection
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

        return handle

    server = await serve(handler=handler)
    response, _ = await fetch(transport, httpx.Request("POST", server.url(), content=b"x" * 5_000_000))
    assert response.status_code == 413


async def test_a_transport_by_its_older_names_is_the_same(serve: Serve) -> None:
    server = await serve(ok())
    config = FetchConfig(allowed_networks=(AllowedNetwork.parse("127.0.0.1"),))
    for name in ("httpx", "h11", "httpcore"):
        opened = open_transport(config, ConnectionOptions(transport=name))  # type: ignore[arg-type]
        assert (await fetch(opened, httpx.Request("GET", server.url())))[1] == b"hello"
        await opened.aclose()
