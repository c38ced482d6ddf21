"""Heads of answers, line by line."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.transport import head as heads
from fetcher.engine.transport.head import ENDLESS_BYTES, parse_head

NAMES = st.from_regex(rb"[A-Za-z0-9-]{1,20}", fullmatch=True).filter(lambda name: name.lower() != b"content-length")
VALUES = st.from_regex(rb"(?:[!-~\x80-\xff](?:[ -~\x80-\xff]{0,30}[!-~\x80-\xff])?)?", fullmatch=True)


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_fields_come_back_as_they_were_sent(fields: list[tuple[bytes, bytes]]) -> None:
    head = parse_head([b"HTTP/1.1 200 OK\r\n", *(name + b": " + value + b"\r\n" for name, value in fields)])
    assert head.headers == tuple(fields)
    assert [tuple(part.encode("latin-1") for part in pair) for pair in head.fields] == fields


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"HTTP/1.1 200 OK\r\n", (b"HTTP/1.1", 200, b"OK")),
        (b"HTTP/1.0 404 Not Found\n", (b"HTTP/1.0", 404, b"Not Found")),
        (b"HTTP/2 200 \r\n", (b"HTTP/2", 200, b"")),
        (b"HTTP/1.1 599\r\n", (b"HTTP/1.1", 599, b"")),
        (b"HTTP/1.1 999 Denied\r\n", (b"HTTP/1.1", 999, b"Denied")),
        (b"HTTP/1.1 200OK\r\n", (b"HTTP/1.1", 200, b"OK")),
        (b"http/1.1 200 ok\r\n", (b"HTTP/1.1", 200, b"ok")),
    ],
)
def test_the_status_line_is_taken_apart(line: bytes, found: tuple[bytes, int, bytes]) -> None:
    head = parse_head([line])
    assert (head.version, head.status, head.reason) == found
    assert head.shown.encode() == head.version


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20000000000000000000000 X\r\n",
        b"HTTP/1.1 9223372036854775808 X\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 099 OK\r\n",
        b"HTTP/1.1 000\r\n",
        b"HTTP/1.1 +20 OK\r\n",
        "HTTP/1.1 \u0662\u0660\u0660 OK\r\n".encode(),
        b"HTTP/1.1 two hundred\r\n",
        b"HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_a_status_that_is_not_three_digits_is_refused(line: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the answer is not valid HTTP/1\.1: .* is not a status line"):
        parse_head([line, b"Content-Length: 2\r\n"])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"Set-Cookie : a=1\r\n", ((b"Set-Cookie", b"a=1"),)),
        (b"Set-Cookie\t: a=1\r\n", ((b"Set-Cookie", b"a=1"),)),
        (b": no name\r\n", ()),
        (b" : folded before anything\r\n", ()),
        (b" folded before anything\r\n", ()),
        (b"A B: v\r\n", ((b"A B", b"v"),)),
        ("\u00c4: v\r\n".encode(), (("\u00c4".encode(), b"v"),)),
        (b":\r\n", ()),
    ],
)
def test_a_field_that_browsers_accept_is_accepted(line: bytes, found: tuple[tuple[bytes, bytes], ...]) -> None:
    head = parse_head([b"HTTP/1.1 200 OK\r\n", line, b"X-Next: 1\r\n"])
    assert head.headers == (*found, (b"X-Next", b"1"))
    assert [name for name, _ in head.fields] == [name.decode("latin-1") for name, _ in head.headers]


def test_a_folded_line_is_joined() -> None:
    head = parse_head([b"HTTP/1.1 200 OK\r\n", b"X-Long: one\r\n", b"\ttwo\r\n", b"X-Next: 3\r\n"])
    assert head.headers == ((b"X-Long", b"one two"), (b"X-Next", b"3"))


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], None),
        ([b"Content-Length: 12\r\n"], 12),
        ([b"content-length:12\r\n", b"Content-Length: 12\r\n"], 12),
        ([b"Content-Length: a dozen\r\n"], None),
        ([b"Content-Length: \r\n"], None),
        ([b"Content-Length: 12, 12\r\n"], None),
        ([b"Content-Length: 0\r\n"], 0),
        ([b"Content-Length: " + b"0" * 60_000 + b"12\r\n"], 12),
        ([b"Content-Length: 999999999999999999\r\n"], 10**18 - 1),
        ([b"Content-Length: 9223372036854775808\r\n"], ENDLESS_BYTES),
        ([b"Content-Length: " + b"9" * 60_000 + b"\r\n"], ENDLESS_BYTES),
    ],
)
def test_the_declared_length_is_a_number_or_nothing(lines: list[bytes], length: int | None) -> None:
    assert parse_head([b"HTTP/1.1 200 OK\r\n", *lines]).length == length


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([b"Content-Length: 12\r\n"], None),
        ([b"Content-Length: 12\r\n", b"Transfer-Encoding: chunked\r\n"], None),
        ([b"Content-Length: 12\r\n", b"Transfer-Encoding: Chunked\r\n"], None),
        ([b"Transfer-Encoding: identity\r\n"], None),
        ([b"Content-Length: 12\r\n", b"Transfer-Encoding: identity\r\n"], 12),
        ([b"transfer-encoding:\r\n", b"Content-Length: 12\r\n"], 12),
        ([b"Content-Length: 9223372036854775808\r\n"], ENDLESS_BYTES),
    ],
)
def test_a_length_that_libcurl_ignores_is_ours_to_keep(lines: list[bytes], length: int | None) -> None:
    assert parse_head([b"HTTP/1.1 200 OK\r\n", *lines]).own_length == length


@pytest.mark.parametrize(
    "lines",
    [
        [b"no colon\r\n"],
        [b"Content-Length : 1\r\n"],
        [b"Transfer-Encoding\t: chunked\r\n"],
        [b"Content-Length: 1\r\n", b"Content-Length: 2\r\n"],
        [b"Content-Length: 1\r\n", b"content-length: 01\r\n"],
    ],
)
def test_fields_of_which_two_readers_make_two_answers_are_refused(lines: list[bytes]) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the answer is not valid HTTP/1\.1: "):
        parse_head([b"HTTP/1.1 200 OK\r\n", *lines])


def test_long_lines_of_many_answers_are_not_kept() -> None:
    """What is kept of 3,000 answers with 90 KB lines, each its own, is bounded by bytes and by number."""
    for number in range(3000):
        lines = [b"X-%d: " % number + b"y" * size + b"\r\n" for size in (10, 100, 90_000 if number < 300 else 300)]
        parse_head([b"HTTP/1.1 200 %d" % number + b"y" * 9_000 + b"\r\n", *lines])

    kept = [*heads._known_status, *heads._known_fields]
    assert len(kept) <= 2 * 2048
    assert max(map(len, kept)) <= 160
