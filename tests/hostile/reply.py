"""What a hostile server does with one connection, and which verdicts are right for it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

READ_TIMEOUT_SECONDS = 0.5
DEADLINE_SECONDS = 0.8

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Plays a server on one connection after the head of the request was read."""

SUCCEEDED = "succeeded"
HTTP_STATUS = "http_status"
PROTOCOL = "protocol"
DECODING = "decoding"
TOO_LARGE = "too_large"
TIMEOUT = "timeout"
CONNECT = "connect"
REDIRECTS = "too_many_redirects"
INVALID_URL = "invalid_url"
NOT_MODIFIED = "not_modified"


@dataclass(frozen=True, slots=True)
class Reply:
    """One behaviour. ``verdicts`` are the right ones: the error kind, or the status of a target without an error.

    ``played`` is a script, or the bytes of the answer, or a function that makes them. ``differing`` holds the verdicts
    of a transport (``libcurl``, ``httpx``) that differ, with the reason in ``why``.
    """

    name: str
    played: Script | bytes | Callable[[], bytes]
    verdicts: frozenset[str]
    method: str = "GET"
    body: bytes | None = None
    is_tls: bool = False
    differing: dict[str, frozenset[str]] = field(default_factory=dict)
    why: str = ""

    def expected(self, transport: str) -> frozenset[str]:
        """Return the verdicts that are right with a transport."""
        return self.differing.get(transport, self.verdicts)

    def script(self) -> Script:
        """Return what the server does; the bytes that it sends are made now."""
        if isinstance(self.played, bytes):
            return _sends(self.played)
        if inspect.iscoroutinefunction(self.played):
            return self.played
        return _sends(cast("Callable[[], bytes]", self.played)())


class Family:
    """The replies of one kind, in the order in which they were added."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._replies: dict[str, Reply] = {}

    def __iter__(self) -> Iterator[Reply]:
        return iter(self._replies.values())

    def add(self, name: str, played: Script | bytes | Callable[[], bytes], *verdicts: str, **options: Any) -> None:
        """Add a reply. Raises ValueError if another one has the name."""
        full = f"{self.name}-{name}"
        if full in self._replies:
            raise ValueError(f"two replies are called {full}")
        self._replies[full] = Reply(full, played, frozenset(verdicts), **options)


def _sends(data: bytes) -> Script:
    """Return the script that sends these bytes and closes the connection."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return script


def answer(*lines: bytes, body: bytes = b"ok", status: bytes = b"200 OK") -> bytes:
    """Return an answer with these header lines and a Content-Length."""
    head = b"".join(line + b"\r\n" for line in (*lines, b"Content-Length: %d" % len(body)))
    return b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body


def headed(*lines: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Return an answer with just these header lines."""
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    """Return an answer whose body is framed by these bytes."""
    return headed(b"Transfer-Encoding: chunked", *lines, body=body)
