"""httpcore's HTTP/1.1 connection, made safe against its peer.

By itself, httpcore 1.0 takes bytes left behind an answer for the start of the next one, passes over any number of
interim answers, and parses for as long as there are bytes, without letting the event loop turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import h11
import httpcore

from fetcher.engine.transport.stream import Stream

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_LINES = 1000
MAX_INTERIM_ANSWERS = 100
# What one step of parsing can take at most: h11 needs 2 µs for a header line, 0.4 µs for a byte of the reason phrase.
_HEAD_READ_BYTES = 4 * 1024
_BODY_READ_BYTES = 32 * 1024
_STEPS = 32
"""Steps of some 10 µs each between two looks at the clock."""
_STEP_BYTES = 256
_SLICE_SECONDS = 0.005
_MAX_JOINED = 32


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
    """A connection to one origin. It becomes idle after an answer only if no byte is left behind it.

    Raises what its stream raises, h11.RemoteProtocolError, httpcore.LocalProtocolError, and EOFError where the head is
    cut short.
    """

    MAX_INCOMPLETE_EVENT_SIZE = MAX_HEAD_BYTES

    def __init__(
        self, origin: httpcore.Origin, stream: Stream, expiry: float, pace: Pace
    ) -> None:
        super().__init__(origin, stream, expiry)
        self.stream = stream
        self._pace = pace
        self._steps = 0
        self._interim = 0
        self._next: h11.Event | type[h11.PAUSED] | None = None

    @property
    def has_sent_all(self) -> bool:
        """Whether the peer may have the whole of the last request."""
        return self._h11_state.our_state not in (h11.IDLE, h11.SEND_BODY, h11.ERROR)

    async def _receive_event(self, timeout: float | None = None) -> h11.Event | type[h11.PAUSED]:  # noqa: ASYNC109
        parser, lines = self._h11_state, 0
        while True:
            if self._steps >= _STEPS:
                self._steps = 0
                await self._pace.wait()
            event = self._next or parser.next_event()
            self._next = None
            self._steps += 1
            if event is not h11.NEED_DATA:
                return self._checked(event)  # type: ignore[arg-type]
            # Without a part of the body in between, these are lines of one head, or of the trailer section.
            if lines > MAX_HEAD_LINES:
                raise h11.RemoteProtocolError("Receive buffer too long")
            in_head = parser.their_state is h11.SEND_RESPONSE
            data = await self._network_stream.read(_HEAD_READ_BYTES if in_head else _BODY_READ_BYTES, timeout)
            if not data and in_head:
                raise EOFError("the server closed the connection in the middle of the head")
            lines += data.count(b"\n")
            self._steps += len(data) // _STEP_BYTES
            parser.receive_data(data)

    def _checked(self, event: h11.Event | type[h11.PAUSED]) -> h11.Event | type[h11.PAUSED]:
        if isinstance(event, h11.InformationalResponse):
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                raise h11.RemoteProtocolError(f"more than {MAX_INTERIM_ANSWERS} interim answers")
        elif isinstance(event, h11.Response):
            self._interim = 0
        elif isinstance(event, h11.Data) and event.chunk_end:
            return self._joined(event)
        return event

    def _joined(self, first: h11.Data) -> h11.Data:
        """Return a chunk with those after it that are here: a body of tiny chunks must not make as many pieces."""
        pieces = [first.data]
        for _ in range(_MAX_JOINED):
            event = self._h11_state.next_event()
            if not isinstance(event, h11.Data):
                self._next = None if event is h11.NEED_DATA else event  # type: ignore[assignment]
                break
            pieces.append(event.data)
        self._steps += len(pieces)
        return h11.Data(data=b"".join(pieces))

    async def _response_closed(self) -> None:
        parser, self._next = self._h11_state, None
        # A short body that is here already, or none at all, need not cost the connection.
        with contextlib.suppress(h11.RemoteProtocolError):
            for _ in range(_MAX_JOINED):
                if parser.their_state is not h11.SEND_BODY or not isinstance(parser.next_event(), h11.Data):
                    break
        if parser.trailing_data[0]:
            await self.aclose()
        else:
            await super()._response_closed()
