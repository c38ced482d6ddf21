"""Requests over real connections: kept, closed, sent again, cancelled, and every failure in httpx's words."""

import asyncio
import random
import socket
import ssl
from collections.abc import Callable

import httpx
import pytest
import trustme

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import FetchError, fetch_error
from fetcher.engine.transport import WIRE, Wire, open_transport
from tests.fetcher.engine.transport.loopback import (
    Handler,
    MakeTransport,
    Serve,
    Server,
    Transport,
    closed_down_to,
    fetch,
    ok,
    open_files,
)
from tests.support.waiting import until


def get(server: Server, *, method: str = "GET", read: float = 5.0, **more: object) -> httpx.Request:
    extensions = {"timeout": {"connect": 5.0, "read": read, "write": read}, WIRE: Wire()}
    return httpx.Request(method, server.url(), extensions=extensions, **more)  # type: ignore[arg-type]


async def failure(transport: Transport, request: httpx.Request) -> httpx.TransportError:
    with pytest.raises(httpx.TransportError) as caught:
        await fetch(transport, request)
    assert str(caught.value)
    assert isinstance(fetch_error(caught.value, connect=1, read=1, answered=False), FetchError)
    return caught.value


# Answers


async def test_an_answer_comes_back_as_it_is_on_the_wire(serve: Serve, transport: Transport) -> None:
    server = await serve(ok(b"\x1f\x8braw", b"X-Mixed-Case: 1", b"Content-Encoding: gzip", b"Set-Cookie: a=1"))
    response, body = await fetch(transport, get(server))
    assert response.status_code == 200
    assert body == b"\x1f\x8braw"
    assert (b"X-Mixed-Case", b"1") in response.headers.raw
    assert response.extensions["reason_phrase"] == b"OK"


async def test_a_chunked_answer_is_joined(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert (await fetch(transport, get(server)))[1] == b"onetwo"
    assert (await fetch(transport, get(server)))[1] == b"onetwo"
    assert server.accepted == 1


async def test_an_interim_answer_is_passed_over(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(b"final"))
    assert (await fetch(transport, get(server)))[1] == b"final"


async def test_a_body_may_last_until_the_connection_ends(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        return handle

    server = await serve(handler=handler)
    assert (await fetch(transport, get(server)))[1] == b"x" * 1000


async def test_a_large_body_arrives_whole_through_a_slow_reader(serve: Serve, transport: Transport) -> None:
    body = random.Random(1).randbytes(3_000_000)
    server = await serve(ok(body))
    response = await transport.handle_async_request(get(server))
    received = b""
    async for chunk in response.stream:  # type: ignore[union-attr]
        assert len(chunk) < 1_000_000
        received += chunk
        await asyncio.sleep(0)
    assert received == body


async def test_a_large_body_that_is_given_up_leaves_nothing_to_the_requests_after_it(
    serve: Serve, transport: Transport
) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                large = b"/large" in await server.read_head(reader)
                writer.write(ok(b"x" * (2_000_000 if large else 5)))
                await writer.drain()

        return handle

    server = await serve(handler=handler)

    for _ in range(5):
        response = await transport.handle_async_request(httpx.Request("GET", server.url("/large")))
        await asyncio.sleep(0.05)  # as much came as is kept for a reader, and the sender was held up
        async for _ in response.stream:  # type: ignore[union-attr]
            break
        await response.aclose()
        assert (await fetch(transport, get(server)))[1] == b"xxxxx"


async def test_a_large_body_is_sent_whole(serve: Serve, transport: Transport) -> None:
    received = []

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            received.append(await reader.readexactly(3_000_000))
            writer.write(ok())
            await writer.drain()

        return handle

    body = random.Random(2).randbytes(3_000_000)
    await fetch(transport, get(await serve(handler=handler), method="POST", content=body))
    assert received == [body]


async def test_an_answer_that_comes_before_the_request_was_read_counts(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.write_eof()
            await reader.read()

        return handle

    response, _ = await fetch(transport, get(await serve(handler=handler), method="POST", content=b"x" * 5_000_000))
    assert response.status_code == 413


# Connections


async def test_a_connection_is_used_again_when_the_body_was_read(serve: Serve, transport: Transport) -> None:
    server = await serve(ok())
    first, second = get(server), get(server)
    await fetch(transport, first)
    await fetch(transport, second)
    assert (server.accepted, len(server.requests)) == (1, 2)
    assert (first.extensions[WIRE].reused, second.extensions[WIRE].reused) == (False, True)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", ok(b"short")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
    ],
)
async def test_a_connection_is_kept_when_what_was_not_read_is_already_here(
    serve: Serve, transport: Transport, method: str, answer: bytes
) -> None:
    server = await serve(answer)
    for _ in range(2):
        await (await transport.handle_async_request(get(server, method=method))).aclose()
    assert server.accepted == 1


async def test_closing_a_body_early_closes_the_connection(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nstart")
    before = open_files()
    response = await transport.handle_async_request(get(server))
    async for chunk in response.stream:  # type: ignore[union-attr]
        assert chunk == b"start"
        break
    await response.aclose()
    await until(lambda: open_files() == before)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"hello", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ok(b"hello") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    ],
    ids=["told to close", "HTTP/1.0", "bytes left behind the answer"],
)
async def test_a_connection_is_not_kept_when_it_must_not_be(serve: Serve, transport: Transport, answer: bytes) -> None:
    server = await serve(answer)
    for _ in range(2):
        assert (await fetch(transport, get(server)))[1] == b"hello"
    assert server.accepted == 2


async def test_bytes_that_come_late_are_never_taken_for_the_next_answer(serve: Serve, transport: Transport) -> None:
    server = await serve(ok(b"right"))
    await fetch(transport, get(server))
    server.writers[0].write(ok(b"forged"))
    await server.writers[0].drain()
    assert (await fetch(transport, get(server)))[1] == b"right"
    assert server.accepted == 2


async def test_a_kept_connection_that_the_server_closed_is_not_used(serve: Serve, transport: Transport) -> None:
    server = await serve(ok())
    await fetch(transport, get(server))
    server.writers[0].close()
    await asyncio.sleep(0.01)
    request = get(server, method="POST", content=b"x")
    assert (await fetch(transport, request))[0].status_code == 200
    assert request.extensions[WIRE].reused is False


def closes_at_the_second_request(server: Server) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_head(reader)
        writer.write(ok())
        await writer.drain()
        if server.accepted == 1:
            await server.read_head(reader)
        else:
            await reader.read()

    return handle


async def test_a_safe_request_is_sent_again_when_a_kept_connection_breaks(serve: Serve, transport: Transport) -> None:
    server = await serve(handler=closes_at_the_second_request)
    await fetch(transport, get(server))
    again = get(server)
    assert (await fetch(transport, again))[1] == b"hello"
    assert server.accepted == 2
    assert len(server.requests) == 3
    assert again.extensions[WIRE].reused is False
    assert again.extensions[WIRE].connect is not None


def closes_at_each_post(server: Server) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await server.read_head(reader)).startswith(b"GET"):
            writer.write(ok())

    return handle


async def test_an_unsafe_request_is_never_sent_twice(serve: Serve, transport: Transport) -> None:
    server = await serve(handler=closes_at_each_post)
    await fetch(transport, get(server))
    error = await failure(transport, get(server, method="POST", content=b"x"))
    assert str(error) == "the server closed the connection before answering"
    assert len(server.requests) == 2


async def test_a_request_is_sent_again_only_once(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            if len(server.requests) == 1:
                writer.write(ok())
                await server.read_head(reader)

        return handle

    server = await serve(handler=handler)
    await fetch(transport, get(server))
    await failure(transport, get(server))
    assert len(server.requests) == 3


async def test_origins_do_not_share_connections(serve: Serve, transport: Transport) -> None:
    one, other = await serve(ok(b"one")), await serve(ok(b"other"))
    for _ in range(2):
        assert (await fetch(transport, get(one)))[1] == b"one"
        assert (await fetch(transport, get(other)))[1] == b"other"
    assert (one.accepted, other.accepted) == (1, 1)


# Failures


def sending(data: bytes, *, reset: bool = False) -> Callable[[Server], Handler]:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(data)
            await writer.drain()
            if reset:
                linger = b"\x01\0\0\0\0\0\0\0"
                await asyncio.sleep(0.01)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                writer.close()
                await writer.wait_closed()

        return handle

    return handler


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"", httpx.RemoteProtocolError, "the server closed the connection before answering"),
        (b"HTTP/1.1 200 O", httpx.RemoteProtocolError, "the server closed the connection in the middle of the head"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.",
            httpx.RemoteProtocolError,
            "the server closed the connection in the middle of the body, after 5 of 10 bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf.",
            httpx.RemoteProtocolError,
            "the server closed the connection in the middle of the body",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", httpx.RemoteProtocolError, "the answer is not valid HTTP/1.1: "),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", httpx.RemoteProtocolError, "the answer is not valid HTTP/1.1: "),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            httpx.RemoteProtocolError,
            "the answer is not valid HTTP/1.1: ",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 100) for n in range(5000)) + b"\r\n",
            httpx.RemoteProtocolError,
            "the head of the answer is too long",
        ),
    ],
)
async def test_a_broken_answer_is_told_in_words(
    serve: Serve, transport: Transport, data: bytes, kind: type[Exception], says: str
) -> None:
    error = await failure(transport, get(await serve(handler=sending(data))))
    assert isinstance(error, kind)
    assert str(error).startswith(says)


async def test_a_reset_in_the_middle_of_the_body_is_told_in_words(serve: Serve, transport: Transport) -> None:
    server = await serve(handler=sending(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.", reset=True))
    error = await failure(transport, get(server))
    assert isinstance(error, httpx.ReadError)
    assert str(error) == "the server broke off the connection"


async def test_a_server_that_never_answers_is_a_read_timeout(serve: Serve, transport: Transport) -> None:
    server = await serve(b"")
    assert isinstance(await failure(transport, get(server, read=0.02)), httpx.ReadTimeout)


async def test_a_body_that_stalls_is_a_read_timeout(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.")
    assert isinstance(await failure(transport, get(server, read=0.02)), httpx.ReadTimeout)


async def test_a_server_that_does_not_read_is_a_write_timeout(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(5)

        return handle

    request = get(await serve(handler=handler), method="POST", content=b"x" * 20_000_000, read=0.05)
    assert isinstance(await failure(transport, request), httpx.WriteTimeout)


async def test_a_request_that_cannot_be_sent_is_not_blamed_on_the_server(serve: Serve, transport: Transport) -> None:
    request = get(await serve(ok()), headers={"X-Bad": "a\r\nb"})
    error = await failure(transport, request)
    assert isinstance(error, httpx.LocalProtocolError)
    assert str(error).startswith("the request cannot be sent: ")


@pytest.mark.parametrize("url", ["ftp://a.test/", "/relative"])
async def test_only_http_is_spoken(transport: Transport, url: str) -> None:
    assert isinstance(await failure(transport, httpx.Request("GET", url)), httpx.UnsupportedProtocol)


async def test_every_failure_closes_its_connection(serve: Serve, transport: Transport) -> None:
    server = await serve(handler=sending(b"garbage\r\n\r\n"))
    before = open_files()
    for _ in range(50):
        await failure(transport, get(server))
    await until(lambda: open_files() <= before)


# Cancelling


async def test_cancelled_requests_leave_no_open_file_behind(serve: Serve, transport: Transport) -> None:
    server = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.")
    draw = random.Random(3)
    before = open_files()
    for _ in range(20):
        tasks = [asyncio.create_task(fetch(transport, get(server))) for _ in range(100)]
        for task in tasks:
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.02), task.cancel)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in done)
    assert await closed_down_to(before)


async def test_cancelled_handshakes_leave_no_open_file_behind(
    serve: Serve, make_transport: MakeTransport, authority: trustme.CA, trusted: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.", tls=context)
    transport = make_transport(ca_file=trusted)
    draw = random.Random(4)
    before = open_files()
    for _ in range(10):
        requests = [httpx.Request("GET", server.url(scheme="https")) for _ in range(20)]
        tasks = [asyncio.create_task(fetch(transport, request)) for request in requests]
        for task in tasks:
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.05), task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await closed_down_to(before)


async def test_a_cancelled_request_closes_its_connection_at_once(serve: Serve, transport: Transport) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            asked.set()
            await reader.read()
            ended.set()

        return handle

    server = await serve(handler=handler)
    task = asyncio.create_task(fetch(transport, get(server)))
    await asked.wait()
    task.cancel()
    await asyncio.wait_for(ended.wait(), 1)


async def test_closing_the_transport_closes_everything(serve: Serve, make_transport: MakeTransport) -> None:
    server = await serve(ok(), b"HTTP/1.1 200 OK\r\n\r\nno end")
    before = open_files()
    transport = make_transport()
    await fetch(transport, get(server))
    endless = await transport.handle_async_request(get(server))
    idle = await transport.handle_async_request(get(server))
    assert open_files() > before
    await transport.aclose()
    await until(lambda: open_files() <= before)
    with pytest.raises(httpx.ReadError):
        [chunk async for chunk in endless.stream]  # type: ignore[union-attr]
    await idle.aclose()
    assert isinstance(await failure(transport, get(server)), httpx.ConnectError)


# What is noted down


async def test_the_wire_tells_what_happened(serve: Serve, transport: Transport) -> None:
    server = await serve(ok())
    request = get(server)
    await fetch(transport, request)
    wire = request.extensions[WIRE]
    assert wire.address == f"127.0.0.1:{server.port}"
    assert wire.http_version == "HTTP/1.1"
    assert (wire.dns, wire.tls, wire.reused) == (None, None, False)
    assert wire.connect > 0


async def test_the_wire_tells_how_far_a_failure_came(serve: Serve, transport: Transport) -> None:
    server = await serve(b"")
    request = get(server, read=0.02)
    await failure(transport, request)
    wire = request.extensions[WIRE]
    assert wire.address == f"127.0.0.1:{server.port}"
    assert wire.connect > 0
    assert wire.http_version is None


async def test_no_wire_is_needed(serve: Serve, transport: Transport) -> None:
    server = await serve(ok())
    assert (await fetch(transport, httpx.Request("GET", server.url())))[1] == b"hello"


async def test_a_transport_for_a_configuration_keeps_its_policy(serve: Serve) -> None:
    server = await serve(ok())
    allowed = (AllowedNetwork.parse(f"127.0.0.1:{server.port}"),)
    for networks, accepted in (((), 0), (allowed, 1)):
        transport = open_transport(FetchConfig(allowed_networks=networks))
        if networks:
            await fetch(transport, get(server))
        else:
            await failure(transport, get(server))
        await transport.aclose()
        assert server.accepted == accepted


async def test_nothing_is_taken_from_the_environment(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = await serve(ok())
    assert (await fetch(transport, get(server)))[1] == b"hello"
