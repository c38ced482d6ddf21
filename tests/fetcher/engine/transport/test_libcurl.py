"""What is libcurl's alone: what it would add or do by itself, its handles and sockets, many hosts and names."""

from __future__ import annotations

import asyncio
import os
import random
import select
from collections.abc import AsyncIterator

import httpx
import pycurl
import pytest

from fetcher.engine.addresses import AddressPolicy, AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import BlockedAddress
from fetcher.engine.transport import WIRE, PreparedRequest, Wire, open_transport
from fetcher.engine.transport.curl_driver import Driver
from fetcher.engine.transport.curl_options import Order
from fetcher.engine.transport.curl_transfer import CurlTransfer
from fetcher.engine.transport.libcurl import LibcurlTransport
from fetcher.engine.transport.resolver import Resolver
from fetcher.engine.urls import parse_url
from tests.fetcher.engine.transport.loopback import LOOPBACK, TIMEOUTS, Handler, Serve, Server, fetch, ok, open_files
from tests.support.nginx import Nginx

REQUESTS = int(os.environ.get("TRAWL_LEAK_REQUESTS", "4000"))
"""Requests of the test for leaks; its long form sends 100,000."""


@pytest.fixture(params=["libcurl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    driver = Driver(10)
    yield driver
    driver.close()


def order(url: str, *, resolve: str | None = None) -> Order:
    return Order(url, None, "host", [], b"", resolve, 5.0, 5.0)


# What is sent


async def test_nothing_is_sent_but_what_the_request_says(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(ok())
    headers = [(b"Host", b"127.0.0.1"), (b"X-Empty", b""), (b"X-One", b"\xe4"), (b"X-One", b"2")]
    await fetch(transport, httpx.Request("GET", server.url("/b?c=%20|"), headers=headers))
    assert server.requests == [
        b"GET /b?c=%20| HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Empty:\r\nX-One: \xe4\r\nX-One: 2\r\n\r\n"
    ]


async def test_a_prepared_request_is_sent_as_it_is(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(ok())
    target = parse_url(server.url("/p?q"))
    for headers in (((b"X-One", b"1"),), ((b"X-Two", b"2"),), ()):
        await fetch(transport, PreparedRequest("GET", target, headers, None, {}))
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    assert server.requests == [
        b"GET /p?q HTTP/1.1\r\n" + host + line + b"\r\n" for line in (b"X-One: 1\r\n", b"X-Two: 2\r\n", b"")
    ]


async def test_user_and_password_of_a_url_are_not_sent(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(ok())
    await fetch(transport, httpx.Request("GET", f"http://user:s3cret@127.0.0.1:{server.port}/"))
    assert b"uthorization" not in server.requests[0]
    assert b"s3cret" not in server.requests[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "PURGE"])
async def test_a_body_goes_with_any_method(serve: Serve, transport: LibcurlTransport, method: str) -> None:
    bodies = []

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read_head(reader)
                bodies.append(await reader.readexactly(5))
                writer.write(ok())

        return handle

    server = await serve(handler=handler)
    for content in (b"first", b"again"):
        await fetch(transport, httpx.Request(method, server.url(), content=content))
    assert bodies == [b"first", b"again"]
    head = server.requests[0]
    assert head.startswith(f"{method} / HTTP/1.1\r\n".encode())
    assert head.count(b"Content-Length: 5\r\n") == 1
    assert b"Expect" not in head
    assert b"Content-Type" not in head
    assert server.accepted == (1 if method == "GET" else 2)  # this server was not seen to keep connections open


async def test_a_body_that_is_a_stream_is_sent_whole(serve: Serve, transport: LibcurlTransport) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    bodies = []

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            bodies.append(await reader.readexactly(6))
            writer.write(ok())

        return handle

    server = await serve(handler=handler)
    await fetch(transport, httpx.Request("POST", server.url(), content=chunks()))
    assert bodies == [b"onetwo"]
    assert b"Content-Length: 6\r\n" in server.requests[0]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_an_unsafe_request_without_a_body_is_never_sent_on_a_connection_that_may_be_dead(
    serve: Serve, transport: LibcurlTransport, method: str
) -> None:
    server = await serve(ok())
    for _ in range(2):
        await fetch(transport, httpx.Request(method, server.url()))
    assert (server.accepted, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("method", ["A B", "GET /x HTTP/1.1\r\nX:", ""])
async def test_a_method_that_is_none_is_not_sent(serve: Serve, transport: LibcurlTransport, method: str) -> None:
    server = await serve(ok())
    with pytest.raises(httpx.LocalProtocolError, match="is no method"):
        await fetch(transport, httpx.Request(method, server.url()))
    assert server.requests == []


# Addresses: the second look, at the very address that libcurl is about to connect to

DISGUISES = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0",
    "127.0.0.1.", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "[::]",
]  # fmt: skip


@pytest.mark.parametrize("host", DISGUISES)
async def test_loopback_is_refused_when_the_connection_opens_however_it_is_written(
    serve: Serve, driver: Driver, host: str
) -> None:
    server = await serve(ok())
    transfer = CurlTransfer(
        driver, [(pycurl.PROXY, "")], AddressPolicy().judge, ("GET", False, False, False), proxy=False
    )
    transfer.begin(order(f"http://{host}:{server.port}/"))
    await asyncio.wait_for(transfer.wait(), 10)
    assert isinstance(transfer.failure, BlockedAddress), transfer.failure
    assert server.accepted == 0
    transfer.close()


async def test_names_are_never_looked_up_by_libcurl(serve: Serve, driver: Driver) -> None:
    server = await serve(ok())
    transfer = CurlTransfer(driver, [(pycurl.PROXY, "")], LOOPBACK.judge, ("GET", False, False, False), proxy=False)
    transfer.begin(order(f"http://a.invalid:{server.port}/", resolve=f"+a.invalid:{server.port}:127.0.0.1"))
    await asyncio.wait_for(transfer.wait(), 10)
    assert transfer.failure is None
    transfer.stop(httpx.ReadError("closed"))
    transfer.close()


# Connections


async def test_many_hosts_with_a_connection_each_do_not_close_one_anothers(nginx: Nginx) -> None:
    transport = open_transport(FetchConfig(concurrency=25, allowed_networks=(AllowedNetwork.parse("127.0.0.0/8"),)))
    before = nginx.accepted()
    for _ in range(3):
        answers = await asyncio.gather(
            *(fetch(transport, httpx.Request("GET", nginx.url("/1k", host))) for host in range(100))
        )
        assert {response.status_code for response, _ in answers} == {200}
    assert nginx.accepted() - before == 100 + 1  # and the question
    await transport.aclose()


async def test_a_thousand_names_are_looked_up_once_each(serve: Serve) -> None:
    asked: list[str] = []

    def lookup(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    server = await serve(ok())
    transport = LibcurlTransport(LOOPBACK, Resolver(lookup), TIMEOUTS, connections=8)
    names = [f"host-{number}.invalid" for number in range(1000)]
    room = asyncio.Semaphore(50)

    async def ask(name: str) -> int:
        async with room:
            return (await fetch(transport, httpx.Request("GET", server.url(host=name))))[0].status_code

    for _ in range(2):
        assert set(await asyncio.gather(*map(ask, names))) == {200}
    assert sorted(asked) == sorted(names)
    hosts = {line for head in server.requests for line in head.splitlines() if line.startswith(b"Host:")}
    assert len(hosts) == 1000
    await transport.aclose()


async def test_only_the_request_for_which_a_name_was_looked_up_has_a_time_for_it(serve: Serve) -> None:
    server = await serve(ok())
    transport = LibcurlTransport(LOOPBACK, Resolver(lambda host: ["127.0.0.1"]), TIMEOUTS, connections=8)
    wires = [Wire(), Wire()]
    for wire in wires:
        request = httpx.Request("GET", server.url(host="a.invalid"), extensions={WIRE: wire})
        assert (await fetch(transport, request))[0].status_code == 200

    assert [wire.dns is not None for wire in wires] == [True, False]
    await transport.aclose()


@pytest.mark.parametrize("epoll", [pytest.param(True, id="epoll"), pytest.param(False, id="the loop's own")])
async def test_sockets_are_watched_either_way(serve: Serve, epoll: bool) -> None:
    if epoll and not hasattr(select, "epoll"):
        pytest.skip("there is no epoll")
    server = await serve(ok(b"x" * 100_000))
    driver = Driver(10, epoll=epoll)
    transfers = [
        CurlTransfer(driver, [(pycurl.PROXY, "")], LOOPBACK.judge, ("GET", False, False, False), proxy=False)
        for _ in range(5)
    ]
    for _ in range(3):
        for transfer in transfers:
            transfer.begin(order(server.url()))
        for transfer in transfers:
            while not transfer.over:
                await asyncio.wait_for(transfer.wait(), 10)
            assert len(transfer.take()) == 100_000
    assert len(server.requests) == 15
    driver.close()
    for transfer in transfers:
        transfer.close()


# What is held


async def test_a_reader_that_takes_nothing_holds_up_the_sender(serve: Serve, transport: LibcurlTransport) -> None:
    sent = 0

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await server.read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            for _ in range(500):
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
            await reader.read()  # what is still on its way must not be cut off

        return handle

    server = await serve(handler=handler)
    response = await transport.handle_async_request(httpx.Request("GET", server.url()))
    await asyncio.sleep(0.3)
    assert sent < 20_000_000  # the system's buffers hold some megabytes
    read = 0
    async for chunk in response.stream:  # type: ignore[union-attr]
        read += len(chunk)
    assert read == 50_000_000


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answering_all_ways(server: Server) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"/break" not in (head := await reader.readuntil(b"\r\n\r\n")):
            if b"/stall" in head:
                await asyncio.sleep(0.05)
            if head.startswith(b"POST"):
                await reader.readexactly(1000)
            writer.write(ok(b"x" * (600_000 if b"/large" in head else 100)))
            await writer.drain()

    return handle


async def batch(transport: LibcurlTransport, server: Server, draw: random.Random) -> None:
    """Send a hundred requests of all kinds; some answers are not read, some requests cancelled."""

    async def one() -> None:
        method, path = draw.choice([*(("GET", path) for path in PATHS), ("HEAD", "/head"), ("POST", "/small")])
        content = b"y" * 1000 if method == "POST" else None
        request = httpx.Request(
            method, server.url(path), content=content, extensions={WIRE: Wire(), "timeout": TIMEOUTS}
        )
        if draw.random() < 0.2:
            await (await transport.handle_async_request(request)).aclose()
        else:
            await fetch(transport, request)

    tasks = [asyncio.ensure_future(one()) for _ in range(100)]
    for task in tasks:
        if draw.random() < 0.3:
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.05), task.cancel)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError | httpx.TransportError), repr(result)


PATHS = ("/small", "/large", "/break", "/stall")


async def test_mixed_requests_with_cancellations_leak_nothing(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(handler=answering_all_ways)
    draw = random.Random(6)
    for _ in range(5):
        await batch(transport, server, draw)
    handles, memory = sum(map(len, transport._spare.values())), resident()
    for _ in range(REQUESTS // 100):
        await batch(transport, server, draw)
        server.writers.clear()  # the server's own memory is not what is measured
    assert transport._driver.running == []
    assert transport._transfers == set()
    assert sum(map(len, transport._spare.values())) <= max(handles, 300)
    assert resident() - memory < 30_000_000
    await transport.aclose()
    await asyncio.sleep(0.05)
    assert open_files() < 60
