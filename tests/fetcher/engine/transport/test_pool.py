"""Idle connections: last used first out, longest unused first closed, and never more than allowed."""

import asyncio
import socket

import httpcore
import pytest

from fetcher.engine.transport import http1
from fetcher.engine.transport.http1 import Connection, Pace, Place
from fetcher.engine.transport.pool import IdlePool
from fetcher.engine.transport.stream import Stream
from tests.fetcher.engine.transport.loopback import Serve, Server, ok

A, B = (b"http", b"a.test", 80), (b"http", b"b.test", 80)


async def idle(server: Server, place: Place) -> Connection:
    """Return a connection after its first answer."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.setblocking(False)
    connection = Connection(place, Stream(sock, "peer"), Pace(), lambda connection: None)
    url = httpcore.URL(scheme=place[0], host=place[1], port=place[2], target=b"/")
    response = await connection.handle_async_request(httpcore.Request("GET", url, headers=[(b"Host", b"a")]))
    await response.aread()
    await response.aclose()
    return connection


async def test_the_connection_used_last_is_taken_first(serve: Serve) -> None:
    server = await serve(ok())
    first, second = await idle(server, A), await idle(server, A)
    pool = IdlePool(10)
    pool.put(first)
    pool.put(second)
    assert [pool.take(A), pool.take(A), pool.take(A)] == [second, first, None]
    first.peer.close()
    second.peer.close()


async def test_over_all_origins_the_longest_unused_is_closed_first(serve: Serve) -> None:
    server = await serve(ok())
    oldest, middle, newest = await idle(server, A), await idle(server, B), await idle(server, A)
    pool = IdlePool(2)
    for connection in (oldest, middle, newest):
        pool.put(connection)
    assert not oldest.peer.is_quiet
    assert pool.take(B) is middle
    assert [pool.take(A), pool.take(A)] == [newest, None]
    middle.peer.close()
    newest.peer.close()


async def test_expired_connections_are_closed_whatever_their_origin(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "_IDLE_SECONDS", -1.0)
    server = await serve(ok())
    connections = [await idle(server, A), await idle(server, B)]
    pool = IdlePool(10)
    for connection in connections:
        pool.put(connection)
    assert pool.take(A) is None
    assert not any(connection.peer.is_quiet for connection in connections)


async def test_a_connection_that_the_server_closed_is_passed_over(serve: Serve) -> None:
    server = await serve(ok())
    open_one, closed_one = await idle(server, A), await idle(server, A)
    pool = IdlePool(10)
    pool.put(open_one)
    pool.put(closed_one)
    server.writers[1].close()
    await asyncio.sleep(0.01)
    assert [pool.take(A), pool.take(A)] == [open_one, None]
    open_one.peer.close()


async def test_closing_the_pool_closes_all(serve: Serve) -> None:
    server = await serve(ok())
    connections = [await idle(server, A) for _ in range(3)]
    pool = IdlePool(10)
    for connection in connections:
        pool.put(connection)
    pool.close()
    assert pool.take(A) is None
    assert not any(connection.peer.is_quiet for connection in connections)
