"""One request and its answer on a raw connection (RFC 9112), with the freedom to answer wrongly on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

Pairs = tuple[tuple[str, str], ...]

MAX_HEAD = 64 * 2**10
"""Bytes of a request's head; the stream reader's limit, too."""
MAX_BODY = 16 * 2**20
"""Bytes of a request's body."""

_JSON = "application/json"
_NO_BODY = frozenset({204, 304})  # RFC 9110, section 6.4.1; 1xx answers are sent by hand


class BadRequest(Exception):
    """The request cannot be understood or asks for something impossible; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived. ``target`` is the path with its query, ``path`` decoded and without it."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: Pairs
    body: bytes

    def header(self, name: str) -> str:
        """Return the first value of a header, or an empty string."""
        return find_header(self.headers, name)


def find_header(headers: Iterable[tuple[str, str]], name: str) -> str:
    """Return the first value of a header, or an empty string."""
    name = name.lower()
    return next((value for key, value in headers if key.lower() == name), "")


def _parse_head(head: bytes) -> tuple[str, str, Pairs]:
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise BadRequest("the request line must be 'METHOD TARGET HTTP/1.1'") from None
    if not version.startswith("HTTP/1."):
        raise BadRequest(f"this origin speaks HTTP/1.1, not {version}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if line and not colon:
            raise BadRequest("a header line has no colon")
        if line:
            headers.append((name, value.strip()))
    return method, target, tuple(headers)


def _length(text: str, base: int) -> int:
    try:
        length = int(text, base)
    except ValueError:
        length = -1
    if not 0 <= length <= MAX_BODY:
        raise BadRequest(f"the body's length must be between 0 and {MAX_BODY} bytes")
    return length


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size = _length((await reader.readuntil(b"\n")).split(b";")[0].strip().decode("latin-1"), 16)
        if not size:
            while (await reader.readuntil(b"\n")).strip():
                pass  # trailers say nothing that a script would need
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        _length(str(len(body)), 10)


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    """Read one request with its body.

    Raises BadRequest, and asyncio.IncompleteReadError where the connection ended instead.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise BadRequest(f"the head of a request must be at most {MAX_HEAD} bytes") from None
    method, target, headers = _parse_head(head)
    path, _, query = target.partition("?")
    if find_header(headers, "Expect").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in find_header(headers, "Transfer-Encoding").lower():
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(_length(find_header(headers, "Content-Length") or "0", 10))
    return Request(method, target, unquote(path), dict(parse_qsl(query, keep_blank_values=True)), headers, body)


class Exchange:
    """What a handler sees of its request, and everything that it can do to the connection.

    ``segments`` are the parts of the path behind the handler's prefix. ``token`` differs between two origins, so that
    one's validators mean nothing to another. ``status`` is what was answered, None before that.
    """

    def __init__(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        segments: tuple[str, ...] = (),
        visits: Counter[str] | None = None,
        token: str = "",
    ) -> None:
        self.request = request
        self.segments = segments
        self.token = token
        self.status: int | None = None
        self.keep_alive = request.header("Connection").lower() != "close"
        self._reader = reader
        self._writer = writer
        self._visits = Counter() if visits is None else visits

    def segment(self, index: int = 0, default: int = 0) -> int:
        """Return a segment of the path as a number. Raises BadRequest."""
        return self._number("the path", self.segments[index]) if len(self.segments) > index else default

    def option(self, name: str, default: int) -> int:
        """Return a query parameter as a number. Raises BadRequest."""
        text = self.request.query.get(name)
        return default if text is None else self._number(f"the query parameter {name}", text)

    def _number(self, where: str, text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 12:
            raise BadRequest(f"{where} must have a whole number of 0 or more, not {text[:100]!r}")
        return int(text)

    def visit(self) -> int:
        """Count this request and return how often its path and query were asked for, this time included."""
        self._visits[self.request.target] += 1
        return self._visits[self.request.target]

    async def send(self, data: bytes) -> None:
        """Send raw bytes and wait while the client is slow to take them."""
        self._writer.write(data)
        await self._writer.drain()

    def _head(self, status: int, headers: Iterable[tuple[str, str]]) -> bytes:
        self.status = status
        phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
        if not self.keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def head(self, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send the head of an answer; how its body is framed is up to the headers and to what follows."""
        await self.send(self._head(status, headers))

    async def answer(
        self, status: int = 200, body: bytes = b"", headers: Iterable[tuple[str, str]] = (), content_type: str = _JSON
    ) -> None:
        """Send a complete, correct answer; to HEAD its head alone."""
        framing = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        head = self._head(status, [*headers, *([] if status in _NO_BODY else framing)])
        await self.send(head if self.request.method == "HEAD" or status in _NO_BODY else head + body)

    async def answer_json(self, value: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a JSON answer."""
        await self.answer(status, json.dumps(value).encode(), headers)

    async def chunk(self, data: bytes) -> None:
        """Send one chunk (RFC 9112, section 7.1); an empty one ends the body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def wait(self, seconds: float | None) -> None:
        """Wait, for ever with None. Raises ConnectionResetError as soon as the client goes away."""
        try:
            await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return
        raise ConnectionResetError("the client closed the connection, or sent more before it had its answer")

    def reset(self) -> None:
        """Drop the connection with a RST instead of a FIN: what was sent and not yet read is lost."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
        self.keep_alive = False


Handler = Callable[[Exchange], Awaitable[None]]
