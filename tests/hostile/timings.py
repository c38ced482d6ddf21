"""Servers that take their time, never end, or break the connection off."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from tests.hostile.reply import (
    CONNECT,
    HTTP_STATUS,
    PROTOCOL,
    SUCCEEDED,
    TIMEOUT,
    TOO_LARGE,
    Family,
    Script,
    answer,
    chunked,
    headed,
)

TIMINGS = Family("timing")

_DRIP_SECONDS = 0.02


def _drips(start: bytes, dripped: Callable[[int], bytes] | bytes) -> Script:
    """Return the script that sends the start at once, then a piece every 20 ms for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        number = 0
        while True:
            writer.write(dripped if isinstance(dripped, bytes) else dripped(number))
            await writer.drain()
            number += 1
            await asyncio.sleep(_DRIP_SECONDS)

    return script


def _endless(start: bytes, piece: bytes) -> Script:
    """Return the script that sends the start, then the piece as quickly as it is taken, for ever."""
    block = piece * max(1, 2**16 // len(piece))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(block)
            await writer.drain()

    return script


def _stalls(start: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await asyncio.Event().wait()

    return script


def _resets(start: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        await asyncio.sleep(_DRIP_SECONDS)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


def _ends(start: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        writer.write_eof()
        await asyncio.Event().wait()

    return script


_HALF_HEAD = b"HTTP/1.1 200 OK\r\nContent-"
_HALF_BODY = headed(b"Content-Length: 100", body=b"half")
_CLOSE_DELIMITED = headed(b"Connection: close", body=b"begun")
_CHUNKED = chunked(b"2\r\nok\r\n")

TIMINGS.add("silent", _stalls(b""), TIMEOUT)
TIMINGS.add("stalls-in-head", _stalls(_HALF_HEAD), TIMEOUT)
TIMINGS.add("stalls-after-head", _stalls(headed(b"Content-Length: 100")), TIMEOUT)
TIMINGS.add("stalls-in-body", _stalls(_HALF_BODY), TIMEOUT)
TIMINGS.add("stalls-in-chunk", _stalls(_CHUNKED + b"5\r\nab"), TIMEOUT)
TIMINGS.add("stalls-in-trailers", _stalls(_CHUNKED + b"0\r\nX: "), TIMEOUT, SUCCEEDED)
TIMINGS.add("stalls-without-length", _stalls(_CLOSE_DELIMITED), TIMEOUT)
TIMINGS.add("stalls-after-500-head", _stalls(headed(b"Content-Length: 9", status=b"500 X")), HTTP_STATUS, TIMEOUT)
TIMINGS.add("closes-at-once", _ends(b""), PROTOCOL)
TIMINGS.add("closes-in-head", _ends(_HALF_HEAD), PROTOCOL)
TIMINGS.add("closes-in-body", _ends(_HALF_BODY), PROTOCOL)
TIMINGS.add("half-closes-after-answer", _ends(answer()), SUCCEEDED)
TIMINGS.add("resets-at-once", _resets(b""), PROTOCOL, CONNECT)
TIMINGS.add("resets-in-head", _resets(_HALF_HEAD), PROTOCOL)
TIMINGS.add("resets-in-body", _resets(_HALF_BODY), PROTOCOL)
TIMINGS.add("resets-without-length", _resets(_CLOSE_DELIMITED), PROTOCOL, SUCCEEDED)
TIMINGS.add("drips-status-line", _drips(b"HTTP/1.1 200 ", b"O"), TIMEOUT)
TIMINGS.add("drips-field-name", _drips(b"HTTP/1.1 200 OK\r\n", b"X"), TIMEOUT)
TIMINGS.add("drips-fields", _drips(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"), TIMEOUT)
TIMINGS.add("drips-informational", _drips(b"", b"HTTP/1.1 103 X\r\nX: 1\r\n\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("drips-body", _drips(headed(b"Content-Length: 100000"), b"x"), TIMEOUT)
TIMINGS.add("drips-chunks", _drips(_CHUNKED, b"1\r\nx\r\n"), TIMEOUT)
TIMINGS.add("drips-chunk-extension", _drips(_CHUNKED + b"1;", b"x"), TIMEOUT)
TIMINGS.add("drips-chunk-size", _drips(_CHUNKED, b"0"), TIMEOUT, PROTOCOL)
TIMINGS.add("drips-trailers", _drips(_CHUNKED + b"0\r\n", b"X: 1\r\n"), TIMEOUT)
TIMINGS.add(
    "drips-gzip", _drips(headed(b"Content-Encoding: gzip"), b"\x1f\x8b\x08" + bytes(7) + b"\x03" + bytes(9)), TIMEOUT
)
TIMINGS.add("endless-continue", _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-hints", _endless(b"", b"HTTP/1.1 103 X\r\nLink: </x>; rel=preload\r\n\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-status-line", _endless(b"HTTP/1.1 200 ", b"x"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-field", _endless(b"HTTP/1.1 200 OK\r\nX: ", b"v"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-fields", _endless(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-folds", _endless(b"HTTP/1.1 200 OK\r\nX: 1\r\n", b" x\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-blank-lines", _endless(b"", b"\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-body", _endless(_CLOSE_DELIMITED, b"x"), TOO_LARGE)
TIMINGS.add("endless-chunks", _endless(_CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"), TOO_LARGE)
TIMINGS.add("endless-one-byte-chunks", _endless(_CHUNKED, b"1\r\nx\r\n"), TIMEOUT, TOO_LARGE)
TIMINGS.add("endless-extensions", _endless(_CHUNKED, b"1;a=b;c=d\r\nx\r\n"), TIMEOUT, TOO_LARGE, PROTOCOL)
TIMINGS.add("endless-extension", _endless(_CHUNKED + b"1;", b"x"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-chunk-size", _endless(_CHUNKED, b"0"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-trailers", _endless(_CHUNKED + b"0\r\n", b"X: 1\r\n"), TIMEOUT, PROTOCOL)
TIMINGS.add("endless-answers", _endless(b"", answer()), SUCCEEDED)
TIMINGS.add("tls-silent", _stalls(b""), TIMEOUT, is_tls=True)
TIMINGS.add("tls-plain-text", _endless(b"", answer()), "tls", PROTOCOL, is_tls=True)
TIMINGS.add("tls-closes", _ends(b""), "tls", is_tls=True)
TIMINGS.add("tls-resets", _resets(b""), "tls", CONNECT, is_tls=True)
TIMINGS.add("tls-alert", _ends(b"\x15\x03\x01\x00\x02\x02\x28"), "tls", is_tls=True)
TIMINGS.add("reads-no-body", _stalls(b""), TIMEOUT, method="POST", body=bytes(2**22))
TIMINGS.add(
    "answers-before-body", _ends(answer(status=b"413 X")), HTTP_STATUS, PROTOCOL, method="POST", body=bytes(2**22)
)
