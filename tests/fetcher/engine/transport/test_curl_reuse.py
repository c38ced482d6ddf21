"""Which kept connections a request with a body goes on, when it may not be sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from socket import create_server, socket

import httpx
import pytest

from fetcher.engine.transport import WIRE, Wire
from fetcher.engine.transport.curl_reuse import KeptOpen
from fetcher.engine.transport.libcurl import LibcurlTransport
from tests.fetcher.engine.transport.loopback import Handler, Serve, Server, fetch, ok

SERVER, OTHER = "http://a.example", "http://b.example"
OWN = ("127.0.0.1", 40_000)


@pytest.fixture(params=["libcurl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def post(url: str) -> httpx.Request:
    return httpx.Request("POST", url, content=b"x", extensions={WIRE: Wire()})


# The rule


def test_a_server_is_trusted_once_it_kept_a_connection_open_for_long_enough() -> None:
    kept = KeptOpen(watched=True, settle=1.0)
    assert not kept.is_trusted(SERVER, 100.0)
    kept.note_answer(SERVER, OWN, 100.0)
    assert not kept.is_trusted(SERVER, 100.9)
    assert kept.is_trusted(SERVER, 101.0)
    assert not kept.is_trusted(OTHER, 101.0)


def test_a_server_that_closes_soon_after_an_answer_is_never_trusted_again() -> None:
    kept = KeptOpen(watched=True, settle=1.0)
    kept.note_answer(SERVER, OWN, 100.0)
    kept.note_close(OWN, 100.5)
    kept.note_answer(SERVER, OWN, 110.0)
    assert not kept.is_trusted(SERVER, 1e9)


def test_a_server_that_closes_what_was_long_idle_stays_trusted() -> None:
    kept = KeptOpen(watched=True, settle=1.0)
    kept.note_answer(SERVER, OWN, 100.0)
    kept.note_close(OWN, 105.0)
    kept.note_close(("127.0.0.1", 1), 105.0)
    assert kept.is_trusted(SERVER, 105.0)


def test_no_server_is_trusted_where_idle_connections_are_not_watched() -> None:
    kept = KeptOpen(watched=False, settle=0.0)
    kept.note_answer(SERVER, OWN, 100.0)
    assert not kept.is_trusted(SERVER, 200.0)


def test_what_is_remembered_of_servers_is_bounded() -> None:
    kept = KeptOpen(watched=True)
    for number in range(20_000):
        kept.note_answer(f"http://{number}.example", ("127.0.0.1", number), 0.0)
    assert max(len(kept._trusted_from), len(kept._answers)) <= 8192


# The requests


@contextlib.contextmanager
def closing_server(requests: list[bytes]) -> Iterator[str]:
    """Answer in a thread of its own, and close each connection right after its answer without having said so."""
    with create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection: socket = listening.accept()[0]
                    with connection:
                        requests.append(connection.recv(65536))
                        connection.sendall(ok())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


async def test_posts_to_a_server_that_closes_after_each_answer_never_fail(transport: LibcurlTransport) -> None:
    requests: list[bytes] = []
    with closing_server(requests) as url:
        for _ in range(300):
            assert (await fetch(transport, post(url)))[0].status_code == 200
    assert len(requests) == 300


async def test_posts_share_a_connection_once_the_server_is_trusted(serve: Serve, transport: LibcurlTransport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read_head(reader)
                await reader.readexactly(1)
                writer.write(ok())

        return handle

    server = await serve(handler=handler)
    transport._driver.kept = KeptOpen(watched=True, settle=0.05)
    first, again = post(server.url()), post(server.url())
    await fetch(transport, first)
    await asyncio.sleep(0.1)
    await fetch(transport, again)
    assert [request.extensions[WIRE].reused for request in (first, again)] == [False, True]


async def test_a_post_that_a_trusted_server_closes_on_fails_once_and_ends_the_trust(
    serve: Serve, transport: LibcurlTransport
) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for closes in (False, server.accepted == 1):
                await server.read_head(reader)
                await reader.readexactly(1)
                if closes:
                    return
                writer.write(ok())

        return handle

    server = await serve(handler=handler)
    transport._driver.kept = kept = KeptOpen(watched=True, settle=0.2)
    await fetch(transport, post(server.url()))
    trusted = server.url().removesuffix("/")
    kept._trusted_from[trusted] = 0.0
    with pytest.raises(httpx.RemoteProtocolError, match="closed the connection before answering"):
        await fetch(transport, post(server.url()))
    assert len(server.requests) == 2
    assert not kept.is_trusted(trusted, 1e9)
    assert (await fetch(transport, post(server.url())))[0].status_code == 200
