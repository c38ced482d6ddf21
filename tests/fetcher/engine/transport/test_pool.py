"""Idle connections: last used first out, longest unused first closed, and never more than told."""

import asyncio

from fetcher.engine.transport.http1 import Connection
from fetcher.engine.transport.pool import IdlePool
from fetcher.engine.transport.stream import Stream
from tests.fetcher.engine.transport.loopback import Serve, Server, ok

A, B = ("http", "a.test", 80), ("http", "b.test", 80)


async def connect(server: Server) -> Connection:
    _, stream = await asyncio.get_running_loop().create_connection(lambda: Stream("peer"), "127.0.0.1", server.port)
    return Connection(stream)


async def test_the_connection_used_last_is_taken_first(serve: Serve) -> None:
    server = await serve(ok())
    first, second = await connect(server), await connect(server)
    pool = IdlePool(10)
    pool.put(A, first)
    pool.put(A, second)
    assert [pool.take(A), pool.take(A), pool.take(A)] == [second, first, None]
    first.close()
    second.close()


async def test_over_all_origins_the_longest_unused_is_closed_first(serve: Serve) -> None:
    server = await serve(ok())
    oldest, middle, newest = [await connect(server) for _ in range(3)]
    pool = IdlePool(2)
    pool.put(A, oldest)
    pool.put(B, middle)
    pool.put(A, newest)
    assert len(pool) == 2
    assert not oldest.stream.is_quiet
    assert pool.take(B) is middle
    assert [pool.take(A), pool.take(A)] == [newest, None]
    middle.close()
    newest.close()


async def test_an_expired_connection_is_closed_and_not_taken(serve: Serve) -> None:
    server = await serve(ok())
    connection = await connect(server)
    pool = IdlePool(10, expiry=0)
    pool.put(A, connection)
    assert pool.take(A) is None
    assert not connection.stream.is_quiet


async def test_expired_connections_of_other_origins_are_closed_too(serve: Serve) -> None:
    server = await serve(ok())
    connection = await connect(server)
    pool = IdlePool(10, expiry=0)
    pool.put(A, connection)
    pool.take(B)
    assert len(pool) == 0
    assert not connection.stream.is_quiet


async def test_closing_the_pool_closes_all(serve: Serve) -> None:
    server = await serve(ok())
    connections = [await connect(server) for _ in range(3)]
    pool = IdlePool(10)
    for connection in connections:
        pool.put(A, connection)
    pool.close()
    assert len(pool) == 0
    assert not any(connection.stream.is_quiet for connection in connections)
