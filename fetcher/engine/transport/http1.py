"""httpcore's HTTP/1.1 connection, made safe against its peer.

By itself, httpcore 1.0 takes bytes left behind an answer for the start of the next one, passes over any number of
interim answers, and parses for as long as there are bytes, without letting the event loop turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import h11
import httpcore
import httpx

from fetcher.engine.transport.stream import Stream

# At DEBUG httpcore logs the headers of every answer, Set-Cookie included.
logging.getLogger("httpcore.http11").setLevel(logging.INFO)

# These bound what one step can take; h11 needs 2 µs for a header line and 0.4 µs for a byte of the status line. Bytes
# and lines are those of a head or a trailer section, without its last read.
MAX_HEAD_BYTES = 100 * 1024
MAX_HEAD_LINES = 5000  # as libcurl
MAX_STATUS_LINE_BYTES = 8 * 1024
MAX_INTERIM_ANSWERS = 32
_STEPS = 32
"""Steps of some 10 µs each between two looks at the clock."""
# Bytes of one read, and how many of them count as a step. Chunks may end in a trailer section.
_IN_HEAD = 4 * 1024, 32
_IN_CHUNKS = 32 * 1024, 1024
_IN_BODY = 128 * 1024, 4096
_SLICE_SECONDS = 0.005
_IDLE_SECONDS = 30.0

Place = tuple[bytes, bytes, int]
"""Scheme, host and port: an origin."""


class Pace:
    """Lets the event loop turn after 5 ms of parsing by all connections together, and serves them in turn."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._until = 0.0

    async def wait(self) -> None:
        """Return when the loop's turn has time left."""
        async with self._lock:
            if time.monotonic() >= self._until:
                await asyncio.sleep(0)
                self._until = time.monotonic() + _SLICE_SECONDS


class Connection(httpcore.AsyncHTTP11Connection):
    """A connection to one origin.

    After an answer it is idle if no byte is left behind, otherwise closed; either way ``done`` is called. Raises what
    its stream raises, h11.RemoteProtocolError, httpcore.LocalProtocolError, and EOFError where the head is cut short.
    What begins with an underscore replaces httpcore's own.
    """

    MAX_INCOMPLETE_EVENT_SIZE = MAX_HEAD_BYTES

    def __init__(self, place: Place, peer: Stream, pace: Pace, done: Callable[[Connection], None]) -> None:
        super().__init__(httpcore.Origin(*place), peer, _IDLE_SECONDS)
        self.place = place
        self.peer = peer
        self._pace = pace
        self._done = done
        self._steps = 0
        self._reading = _IN_HEAD
        self._next: h11.Event | None = None

    async def _receive_event(self, timeout: float | None = None) -> h11.Event | type[h11.PAUSED]:  # noqa: ASYNC109
        """Return the next part of an answer; interim answers are passed over (RFC 9110, section 15.2)."""
        parser, interim = self._h11_state, 0
        while True:
            if self._steps >= _STEPS:
                self._steps = 0
                await self._pace.wait()
            event = self._next or parser.next_event()
            self._next = None
            self._steps += 1
            if isinstance(event, h11.InformationalResponse):
                interim += 1
                _check_interim(event.status_code, interim)
                continue
            if isinstance(event, h11.Data) and event.chunk_end:
                return self._joined(event)
            if isinstance(event, h11.Response):
                is_chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
                self._reading = _IN_CHUNKS if is_chunked else _IN_BODY
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            in_head = parser.their_state is h11.SEND_RESPONSE
            held = parser.trailing_data[0]  # the beginning of a head, of a trailer section or of a chunk's first line
            if held.count(b"\n") > MAX_HEAD_LINES or (in_head and b"\n" not in held[:MAX_STATUS_LINE_BYTES] != held):
                raise h11.RemoteProtocolError("Receive buffer too long")
            size, step = self._reading
            data = await self.peer.read(size, timeout)
            if not data and in_head:
                raise EOFError("the server closed the connection in the middle of the head")
            self._steps += len(data) // step
            parser.receive_data(data)

    def _joined(self, first: h11.Data) -> h11.Data:
        """Return a chunk with those after it that are here: a body of tiny chunks must not make as many pieces."""
        pieces = [first.data]
        for _ in range(_STEPS):
            event = self._h11_state.next_event()
            if not isinstance(event, h11.Data):
                self._next = event if isinstance(event, h11.Event) else None
                break
            pieces.append(event.data)
        self._steps += len(pieces)
        return h11.Data(data=b"".join(pieces))

    async def _response_closed(self) -> None:
        parser, self._next, self._reading = self._h11_state, None, _IN_HEAD
        try:
            # A short body that is here already, or none at all, need not cost the connection.
            with contextlib.suppress(h11.RemoteProtocolError):
                for _ in range(_STEPS):
                    if parser.their_state is not h11.SEND_BODY or not isinstance(parser.next_event(), h11.Data):
                        break
            if parser.trailing_data[0]:
                await self.aclose()
            else:
                await super()._response_closed()
        finally:
            self._done(self)


def _check_interim(status: int, number: int) -> None:
    """Refuse an interim answer after which no other is expected, or one too many. Raises httpx.RemoteProtocolError."""
    if status == 101:
        raise httpx.RemoteProtocolError("the server switched protocols (101)")
    if number > MAX_INTERIM_ANSWERS:
        raise httpx.RemoteProtocolError(f"the server sent more than {MAX_INTERIM_ANSWERS} interim answers (1xx)")
