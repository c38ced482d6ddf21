"""Heads of answers, line by line."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.transport.head import parse_head

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
    ],
)
def test_the_status_line_is_taken_apart(line: bytes, found: tuple[bytes, int, bytes]) -> None:
    head = parse_head([line])
    assert (head.version, head.status, head.reason) == found
    assert head.shown.encode() == head.version


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
        ([b"Content-Length: " + b"9" * 30], None),
    ],
)
def test_the_declared_length_is_a_number_or_nothing(lines: list[bytes], length: int | None) -> None:
    assert parse_head([b"HTTP/1.1 200 OK\r\n", *lines]).length == length


@pytest.mark.parametrize(
    "lines",
    [
        [b"SSH-2.0-OpenSSH\r\n"],
        [b"HTTP/1.1 two hundred\r\n"],
        [b"HTTP/1.1 200 OK\r\n", b"no colon\r\n"],
        [b"HTTP/1.1 200 OK\r\n", b": no name\r\n"],
        [b"HTTP/1.1 200 OK\r\n", b"Space : before the colon\r\n"],
        [b"HTTP/1.1 200 OK\r\n", b" folded before anything\r\n"],
        [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 1\r\n", b"Content-Length: 2\r\n"],
    ],
)
def test_what_is_no_head_is_an_error_in_words(lines: list[bytes]) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=r"^the answer is not valid HTTP/1\.1: "):
        parse_head(lines)
