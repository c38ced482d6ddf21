"""An answer that comes while the request is still being sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httpx
import pytest
import trustme

from tests.fetcher.engine.transport.loopback import Handler, MakeTransport, Serve, Server, Transport, fetch, ok

BODY = b"x" * 20_000_000
"""More than the system takes for a peer that does not read."""
REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch"


def post(server: Server, read: float, scheme: str = "http") -> httpx.Request:
    timeouts = {"connect": 5.0, "read": read, "write": read}
    return httpx.Request("POST", server.url(scheme=scheme), content=BODY, extensions={"timeout": timeouts})


def reading_no_body(*answers: bytes) -> Callable[[Server], Handler]:
    """Answer in these pieces, one after the other, and read nothing but the head."""

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            for piece in answers:
                writer.write(piece)
                await asyncio.sleep(0.05)
            await asyncio.sleep(60)

        return handle

    return handler


@pytest.mark.parametrize(
    "answers",
    [
        (REFUSAL,),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nLink: </x>\r\n\r\n" + REFUSAL),
        (REFUSAL[:7], REFUSAL[7:10], REFUSAL[10:]),
    ],
    ids=["at once", "after interim answers", "in pieces"],
)
async def test_a_refusal_counts_though_the_body_is_not_read(
    serve: Serve, transport: Transport, answers: tuple[bytes, ...]
) -> None:
    server = await serve(handler=reading_no_body(*answers))
    response, body = await fetch(transport, post(server, read=30.0))
    assert (response.status_code, body) == (413, b"much")


async def test_a_refusal_counts_over_tls_too(
    serve: Serve, make_transport: MakeTransport, trusted: str, authority: trustme.CA
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(handler=reading_no_body(REFUSAL), tls=context)
    response, body = await fetch(make_transport(ca_file=trusted), post(server, read=30.0, scheme="https"))
    assert (response.status_code, body) == (413, b"much")


async def test_any_answer_counts_when_no_more_of_the_body_is_taken(serve: Serve, transport: Transport) -> None:
    response, body = await fetch(transport, post(await serve(handler=reading_no_body(ok())), read=0.3))
    assert (response.status_code, body) == (200, b"hello")


async def test_interim_answers_alone_are_no_answer(serve: Serve, transport: Transport) -> None:
    server = await serve(handler=reading_no_body(b"HTTP/1.1 100 Continue\r\n\r\n"))
    with pytest.raises(httpx.WriteTimeout):
        await fetch(transport, post(server, read=0.3))


async def test_an_answer_that_begins_early_does_not_end_the_sending(serve: Serve, transport: Transport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(ok()[:-1])
            await asyncio.sleep(0.05)
            await reader.readexactly(len(BODY))
            writer.write(b"!")
            await writer.drain()

        return handle

    response, body = await fetch(transport, post(await serve(handler=handler), read=30.0))
    assert (response.status_code, body) == (200, b"hell!")
