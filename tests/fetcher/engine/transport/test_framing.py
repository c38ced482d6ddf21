"""Where an answer ends, and that nothing behind its end is taken for another answer."""

import asyncio
import socket
import ssl

import httpx
import pytest
import trustme

from tests.fetcher.engine.transport.loopback import Handler, MakeTransport, Serve, Server, Transport, fetch

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FORGED = b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"
FORGED_CHUNKS = b"HTTP/1.1 500 Forged\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + FORGED, b"ok"),
        ("GET", CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + FORGED, b"ok"),
        ("GET", CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n" + FORGED_CHUNKS, b"ok"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(FORGED) + FORGED, b""),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + FORGED, b""),
        ("GET", b"HTTP/1.1 204 None\r\nContent-Length: %d\r\n\r\n" % len(FORGED) + FORGED, b""),
        ("GET", b"HTTP/1.1 304 Same\r\nContent-Length: %d\r\n\r\n" % len(FORGED) + FORGED, b""),
    ],
    ids=["length", "last chunk", "trailer", "HEAD", "no length", "204", "304"],
)
async def test_bytes_behind_an_answer_are_never_taken_for_the_next(
    serve: Serve, transport: Transport, method: str, answer: bytes, expected: bytes
) -> None:
    server = await serve(answer)
    for _ in range(3):
        response, body = await fetch(transport, httpx.Request(method, server.url()))
        assert response.status_code != 500
        assert body == expected


@pytest.mark.parametrize("is_notified", [True, False], ids=["close_notify", "cut off"])
async def test_a_body_that_lasts_until_tls_ends_is_whole_only_if_the_server_says_so(
    serve: Serve, make_transport: MakeTransport, authority: trustme.CA, trusted: str, is_notified: bool
) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
            await writer.drain()
            if is_notified:
                writer.close()
                await writer.wait_closed()
            else:
                writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
                await reader.read()

        return handle

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(handler=handler, tls=context)
    transport, request = make_transport(ca_file=trusted), httpx.Request("GET", server.url(scheme="https"))
    if is_notified:
        assert (await fetch(transport, request))[1] == b"half of it"
    else:
        with pytest.raises(httpx.RemoteProtocolError, match=r"^the server closed the connection in the middle of the"):
            await fetch(transport, request)
