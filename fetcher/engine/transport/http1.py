"""HTTP/1.1 over one connection: a request out, its answer in, then the next.

On h11, the parser below httpcore, rather than on httpcore's connections: those do not show whether bytes were left
behind an answer. Such bytes would be taken for the answer to the next request on the connection, of another target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import h11
import httpx

from fetcher.engine.transport.failures import ClosedBeforeAnswer
from fetcher.engine.transport.stream import Stream

_MAX_HEAD = 100 * 1024

Timeouts = Mapping[str, float | None]


class Connection:
    """One connection to an origin. Not for two requests at a time."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)

    async def exchange(self, request: httpx.Request, timeouts: Timeouts) -> h11.Response:
        """Send ``request`` and return the head of the final answer.

        Raises ClosedBeforeAnswer where the connection ended before one byte of it, httpx's time-outs, and whatever
        ``failures.exchange_failure`` knows.
        """
        before = self.stream.received
        try:
            # A server may refuse a body with an answer and close without reading it: look for that answer.
            with contextlib.suppress(OSError):
                await self._send(request, timeouts.get("write"))
            return await self._receive_head(timeouts.get("read"))
        except (OSError, EOFError) as exc:
            if self.stream.received == before:
                raise ClosedBeforeAnswer("the server closed the connection before answering") from exc
            raise

    async def read_body(self, timeouts: Timeouts) -> bytes:
        """Return the next bytes of the body as on the wire, its transfer coding removed; nothing at the end."""
        event = await self._next_event(timeouts.get("read"))
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def skip(self) -> None:
        """Read over what is left of an answer as far as it is already here."""
        event = self._parser.next_event()
        while isinstance(event, h11.Data):
            event = self._parser.next_event()

    def renew(self) -> bool:
        """Make ready for another request. False where that is not possible and the connection must be closed."""
        parser = self._parser
        done = parser.our_state is h11.DONE and parser.their_state is h11.DONE
        if not done or parser.trailing_data[0] or not self.stream.is_quiet:
            return False
        parser.start_next_cycle()
        return True

    def close(self) -> None:
        """Drop the connection now."""
        self.stream.close()

    async def _send(self, request: httpx.Request, timeout: float | None) -> None:  # noqa: ASYNC109 - handed on
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        data = self._parser.send(head) or b""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise httpx.LocalProtocolError("the body of the request cannot be sent: it is no async stream")
        async for chunk in request.stream:
            data += self._parser.send(h11.Data(data=chunk)) or b""
            await self.stream.write(data, timeout)
            data = b""
        data += self._parser.send(h11.EndOfMessage()) or b""
        await self.stream.write(data, timeout)

    async def _receive_head(self, timeout: float | None) -> h11.Response:  # noqa: ASYNC109 - handed on
        while True:
            event = await self._next_event(timeout)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise httpx.RemoteProtocolError("the server sent no answer")

    async def _next_event(self, timeout: float | None) -> h11.Event | type[h11.PAUSED]:  # noqa: ASYNC109 - handed on
        while True:
            event = self._parser.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            data = await self.stream.read(timeout)
            if not data and self._parser.their_state is h11.SEND_RESPONSE:
                raise EOFError("the server closed the connection in the middle of the head")
            self._parser.receive_data(data)
