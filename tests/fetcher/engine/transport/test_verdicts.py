"""What becomes of an answer, byte for byte, on both transports.

Each row is what a server sends before it closes the connection, and the engine's verdict on it. A row with a second
verdict is one on which the portable transport differs, with the reason. HTTP/1.1 is RFC 9112.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trustme

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.runner import fetch_all
from fetcher.engine.transport import ConnectionOptions
from fetcher.engine.types import Outcome, Target
from fetcher.engine.urls import parse_url
from tests.fetcher.engine.transport.loopback import Handler, Serve, Server

Verdict = tuple[str, str | None, int | None]
"""Status, error kind, HTTP status."""

OK: Verdict = ("succeeded", None, 200)
NOT_HTTP: Verdict = ("failed", "protocol", None)
"""No head that could be read."""
BROKEN: Verdict = ("failed", "protocol", 200)
"""A head, and a body that is not what the head says."""
TOO_LARGE: Verdict = ("failed", "too_large", 200)


def refused(status: int) -> Verdict:
    return ("failed", "http_status", status)


@dataclass(frozen=True)
class Row:
    """``portable`` is the portable transport's verdict where it differs, ``why`` the reason."""

    answer: bytes
    verdict: Verdict
    body: bytes | None = None
    portable: Verdict | None = None
    why: str = ""


LINE = b"HTTP/1.1 200 OK\r\n"
REST = b"Content-Length: 2\r\n\r\nok"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"


def good(head: bytes, portable: Verdict | None = None, why: str = "") -> Row:
    return Row(head + REST, OK, b"ok", portable, why)


H11_STATUS = "h11 accepts these versions"
H11_NAMES = "h11 takes a field name for a token only, libcurl for whatever precedes the colon"
H11_CODING = "h11 knows no transfer coding but chunked, given once"
H11_DIGITS = "h11 reads no Content-Length of more than 20 digits"

STATUS_LINES = {
    "status of 23 digits": Row(b"HTTP/1.1 20000000000000000000000 X\r\n" + REST, NOT_HTTP),
    "status over 64 bits": Row(b"HTTP/1.1 9223372036854775808 X\r\n" + REST, NOT_HTTP),
    "status of 4 digits": Row(b"HTTP/1.1 2000 X\r\n" + REST, NOT_HTTP),
    "status of 2 digits": Row(b"HTTP/1.1 20 X\r\n" + REST, NOT_HTTP),
    "status 099": Row(b"HTTP/1.1 099 X\r\n" + REST, NOT_HTTP),
    "status 000": Row(b"HTTP/1.1 000 X\r\n" + REST, NOT_HTTP),
    "status with a sign": Row(b"HTTP/1.1 +20 X\r\n" + REST, NOT_HTTP),
    "status that is a word": Row(b"HTTP/1.1 OK 200\r\n" + REST, NOT_HTTP),
    "no status": Row(b"HTTP/1.1\r\n" + REST, NOT_HTTP),
    "status 600": Row(b"HTTP/1.1 600 X\r\n" + REST, refused(600)),
    "status 999": Row(b"HTTP/1.1 999 Denied\r\n" + REST, refused(999)),
    "no reason": good(b"HTTP/1.1 200\r\n"),
    "no space before the reason": good(b"HTTP/1.1 200OK\r\n", NOT_HTTP, "h11 demands the space"),
    "version in small letters": good(b"http/1.1 200 ok\r\n", NOT_HTTP, "h11 demands capitals"),
    "HTTP/1.0": good(b"HTTP/1.0 200 OK\r\n"),
    "HTTP/1.2": Row(b"HTTP/1.2 200 OK\r\n" + REST, NOT_HTTP, None, OK, H11_STATUS),
    "HTTP/0.9": Row(b"HTTP/0.9 200 OK\r\n" + REST, NOT_HTTP, None, OK, H11_STATUS),
    "lines that end in LF": good(b"HTTP/1.1 200 OK\n"),
    "another protocol": Row(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", NOT_HTTP),
    "a TLS alert": Row(b"\x15\x03\x01\x00\x02\x02\x50", NOT_HTTP),
    "HTML without a head": Row(b"<html>hi</html>\r\n\r\n", NOT_HTTP),
    "nothing": Row(b"", NOT_HTTP),
    "half a head": Row(b"HTTP/1.1 200 OK\r\nX: ", NOT_HTTP),
}

INTERIM = {
    "103 before the answer": good(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"),
    "20 interim answers": good(b"HTTP/1.1 102 Wait\r\n\r\n" * 20 + LINE),
    "1,000 interim answers": Row(b"HTTP/1.1 102 Wait\r\n\r\n" * 1000 + LINE + REST, NOT_HTTP),
    "100 and no more": Row(b"HTTP/1.1 100 Continue\r\n\r\n", NOT_HTTP),
    "199 with a body": Row(b"HTTP/1.1 199 X\r\n" + REST, NOT_HTTP),
    "101 that was not asked for": Row(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", NOT_HTTP),
}

LENGTHS = {
    "2^63": Row(LINE + b"Content-Length: 9223372036854775808\r\n\r\n0123456789", TOO_LARGE),
    "2^63 - 1": Row(LINE + b"Content-Length: 9223372036854775807\r\n\r\n0123456789", TOO_LARGE),
    "2^64 + 10": Row(LINE + b"Content-Length: 18446744073709551626\r\n\r\n0123456789", TOO_LARGE),
    "30 digits": Row(
        LINE + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n0123456789", TOO_LARGE, None, NOT_HTTP, H11_DIGITS
    ),
    "30 digits of which 29 are zeros": Row(
        LINE + b"Content-Length: " + b"0" * 29 + b"2\r\n\r\nok", OK, b"ok", NOT_HTTP, H11_DIGITS
    ),
    "negative": Row(LINE + b"Content-Length: -5\r\n\r\nok", NOT_HTTP),
    "a word": Row(LINE + b"Content-Length: two\r\n\r\nok", NOT_HTTP),
    "empty": Row(LINE + b"Content-Length: \r\n\r\nok", NOT_HTTP),
    "a list of the same": Row(LINE + b"Content-Length: 2, 2\r\n\r\nok", OK, b"ok"),
    "twice the same": good(LINE + b"Content-Length: 2\r\n"),
    "twice, and it differs": Row(LINE + b"Content-Length: 3\r\n" + REST, NOT_HTTP),
    "white space before the colon": Row(LINE + b"Content-Length : 2\r\n\r\nok", NOT_HTTP),
    "more than there is": Row(LINE + b"Content-Length: 20\r\n\r\nok", BROKEN),
    "less than there is": Row(LINE + REST + b"more", OK, b"ok"),
    "none": Row(LINE + b"\r\nok", OK, b"ok"),
}

CODINGS = {
    "identity": Row(LINE + b"Transfer-Encoding: identity\r\n\r\nok", OK, b"ok", NOT_HTTP, H11_CODING),
    "identity, and all that the length says": good(LINE + b"Transfer-Encoding: identity\r\n", NOT_HTTP, H11_CODING),
    "identity, and less than the length says": Row(
        LINE + b"Transfer-Encoding: identity\r\nContent-Length: 20\r\n\r\nok", BROKEN, None, NOT_HTTP, H11_CODING
    ),
    "identity, and more than the length says": Row(
        LINE + b"Transfer-Encoding: identity\r\n" + REST + b"more", OK, b"ok", NOT_HTTP, H11_CODING
    ),
    "identity, and a length of nothing": Row(
        LINE + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\nmore", OK, b"", NOT_HTTP, H11_CODING
    ),
    "none at all": good(LINE + b"Transfer-Encoding: \r\n", NOT_HTTP, H11_CODING),
    "gzip": Row(LINE + b"Transfer-Encoding: gzip\r\n\r\nok", NOT_HTTP),
    "chunked after gzip": Row(LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "in capitals": Row(LINE + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n", OK, b"ok"),
    "beside a length": Row(
        LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n", OK, b"ok"
    ),
    "white space before the colon": Row(LINE + b"Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", NOT_HTTP),
    "chunks": Row(CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", OK, b"ok"),
    "chunks with extensions": Row(CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n", OK, b"ok"),
    "chunks with trailers": Row(CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", OK, b"ok"),
    "chunks that end in LF": Row(CHUNKED + b"2\nok\n0\n\n", OK, b"ok", BROKEN, "h11 demands CR LF"),
    "chunks without the last": Row(CHUNKED + b"2\r\nok\r\n", BROKEN),
    "chunks without the end of the trailers": Row(CHUNKED + b"2\r\nok\r\n0\r\n", BROKEN),
    "a chunk that is longer than it says": Row(CHUNKED + b"2\r\nokXX0\r\n\r\n", BROKEN),
    "a chunk of 2^64 - 1 bytes": Row(CHUNKED + b"ffffffffffffffff\r\nok\r\n0\r\n\r\n", BROKEN),
    "a chunk of -2 bytes": Row(CHUNKED + b"-2\r\nok\r\n0\r\n\r\n", BROKEN),
}

FIELDS = {
    "white space before the colon": good(LINE + b"Set-Cookie : a=1\r\n", NOT_HTTP, H11_NAMES),
    "no name": good(LINE + b": v\r\n", NOT_HTTP, H11_NAMES),
    "a name with a space": good(LINE + b"A B: v\r\n", NOT_HTTP, H11_NAMES),
    "a name in UTF-8": good(LINE + b"\xc3\x84: v\r\n", NOT_HTTP, H11_NAMES),
    "white space before the first field": good(LINE + b" X: v\r\n", NOT_HTTP, "h11 takes it for a folded line"),
    "a folded field": good(LINE + b"X: a\r\n b\r\n"),
    "no colon": Row(LINE + b"nonsense\r\n" + REST, NOT_HTTP),
    "a NUL": Row(LINE + b"X: a\0b\r\n" + REST, NOT_HTTP),
    "a CR": Row(LINE + b"X: a\rb\r\n" + REST, NOT_HTTP),
    "bytes that are no ASCII": good(LINE + b"X: \xe4\xff\r\n"),
    "a line of 90 KB": good(LINE + b"X: " + b"y" * 90_000 + b"\r\n"),
    "4,000 lines": good(LINE + b"a: b\r\n" * 4000),
    "6,000 lines": Row(LINE + b"a: b\r\n" * 6000 + REST, NOT_HTTP),
    "400 KB": Row(LINE + (b"a: " + b"b" * 20_000 + b"\r\n") * 20 + REST, NOT_HTTP),
}

OTHERS = {
    "204 with a body": Row(b"HTTP/1.1 204 No Content\r\n" + REST, ("succeeded", None, 204), b""),
    "304 to an unconditional request": Row(b"HTTP/1.1 304 Not Modified\r\n\r\n", ("failed", "protocol", 304)),
    "a second answer behind the first": Row(LINE + REST + LINE + b"Content-Length: 6\r\n\r\nforged", OK, b"ok"),
}

TABLES = {
    "status line": STATUS_LINES, "interim": INTERIM, "length": LENGTHS, "coding": CODINGS, "field": FIELDS,
    "answer": OTHERS,
}  # fmt: skip
ROWS = [
    pytest.param(row, id=f"{table}: {name}".replace(" ", "-"))
    for table, rows in TABLES.items()
    for name, row in rows.items()
]


async def fetched(url: str, kind: str, ca_file: str = "") -> Outcome:
    config = FetchConfig(max_attempts=1, read_timeout=10, allowed_networks=(AllowedNetwork.parse("127.0.0.0/8"),))
    parsed = parse_url(url)
    options = ConnectionOptions(transport=kind, ca_file=ca_file)  # type: ignore[arg-type]
    (outcome,) = [found async for found in fetch_all([Target(parsed.href, parsed.host)], config, connections=options)]
    return outcome


def sends(answer: bytes) -> Callable[[Server], Handler]:
    """Send an answer and close; over TLS without the alert that says so."""

    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.read_head(reader)
            writer.write(answer)
            await writer.drain()
            if writer.get_extra_info("ssl_object") is None:
                writer.close()
                await writer.wait_closed()

        return handle

    return handler


@pytest.mark.parametrize("row", ROWS)
async def test_an_answer_has_the_verdict_of_the_table(serve: Serve, kind: str, row: Row) -> None:
    server = await serve(handler=sends(row.answer))

    outcome = await fetched(server.url(), kind)

    verdict = row.verdict if kind == "libcurl" or row.portable is None else row.portable
    assert (outcome.status, outcome.error_kind, outcome.http_status) == verdict, outcome.error_detail
    if row.body is not None and verdict == row.verdict:
        assert outcome.body == row.body


async def test_a_tls_connection_that_is_cut_off_is_not_the_end_of_a_body(
    serve: Serve, kind: str, authority: trustme.CA, trusted: str
) -> None:
    """Without the closing alert anybody on the way may have cut it (RFC 9110, section 8.6; RFC 9112, section 9.8)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(handler=sends(LINE + b"\r\nhalf of it"), tls=context)

    outcome = await fetched(server.url(scheme="https"), kind, trusted)

    assert (outcome.status, outcome.error_kind, outcome.http_status) == BROKEN


def test_each_row_that_differs_says_why() -> None:
    rows = [row for rows in TABLES.values() for row in rows.values()]
    assert all((row.portable is None) == (not row.why) and row.portable != row.verdict for row in rows)
