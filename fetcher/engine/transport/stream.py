"""One open connection as a stream of bytes, with a bound on every wait."""

from __future__ import annotations

import asyncio
import select
from typing import cast

import httpx

_PIECE = 64 * 1024
_HIGH_WATER = 128 * 1024


class Stream(asyncio.Protocol):
    """Bytes to and from a peer. Made by the event loop; ``close`` is immediate and never waits.

    ``address`` is the peer as text, ``received`` the number of bytes that came in so far. Reading pauses while more
    than 128 KiB wait to be taken, so that memory stays bounded when the reader is slower than the network.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.received = 0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._reading_paused = False
        self._writing_paused = False
        self._ended = False
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        """The event loop's end of the connection, None when it is gone."""
        return self._transport

    @property
    def is_quiet(self) -> bool:
        """Whether the connection is open and nothing waits to be read: what an idle one has to be for another use."""
        if self._ended or self._buffer or self._transport is None or self._transport.is_closing():
            return False
        # The peer may have closed at a moment that the event loop has not come to yet.
        poller = select.poll()
        poller.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poller.poll(0)

    async def read(self, timeout: float | None) -> bytes:  # noqa: ASYNC109 - one timer is cheaper than a scope here
        """Return what has come in, at least one byte, or nothing at the end. Raises httpx.ReadTimeout and OSError."""
        while not self._buffer:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._bounded(self._reader, timeout, httpx.ReadTimeout)
            finally:
                self._reader = None
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes, timeout: float | None) -> None:  # noqa: ASYNC109 - see read
        """Send ``data``; the bound is on each wait for progress. Raises httpx.WriteTimeout and OSError."""
        for start in range(0, len(data), _PIECE):
            if self._transport is None or self._transport.is_closing():
                raise self._failure or ConnectionResetError
            self._transport.write(data if len(data) <= _PIECE else data[start : start + _PIECE])
            while self._writing_paused:
                self._writer = self._loop.create_future()
                try:
                    await self._bounded(self._writer, timeout, httpx.WriteTimeout)
                finally:
                    self._writer = None

    def close(self) -> None:
        """Drop the connection now, whatever is still to be sent or read."""
        if self._transport is not None:
            self._transport.abort()
        # Without a failure a body that lasts until the connection ends would look complete.
        self._end(ConnectionAbortedError("closed on this side"))

    async def _bounded(
        self,
        waiter: asyncio.Future[None],
        timeout: float | None,  # noqa: ASYNC109 - see read
        expired: type[httpx.TimeoutException],
    ) -> None:
        if timeout is None:
            await waiter
            return
        timer = self._loop.call_later(timeout, _fail, waiter, expired, timeout)
        try:
            await waiter
        finally:
            timer.cancel()

    def _end(self, failure: Exception | None) -> None:
        self._ended = True
        self._writing_paused = False
        self._failure = self._failure or failure
        _wake(self._reader)
        _wake(self._writer)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.received += len(data)
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:  # noqa: D102
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        # A transport that is gone must not be asked to abort any more.
        self._transport = None
        self._end(exc)

    def pause_writing(self) -> None:  # noqa: D102
        self._writing_paused = not self._ended

    def resume_writing(self) -> None:  # noqa: D102
        self._writing_paused = False
        _wake(self._writer)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _fail(waiter: asyncio.Future[None], expired: type[httpx.TimeoutException], timeout: float) -> None:
    if not waiter.done():
        waiter.set_exception(expired(f"no progress for {timeout:g} s"))
