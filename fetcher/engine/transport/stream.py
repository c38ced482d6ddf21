"""One open connection: bytes out and in, plain or over TLS, with a bound on every wait."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpcore
import httpx

_PIECE_BYTES = 64 * 1024
_AHEAD_BYTES = 4 * 1024
"""Read at most while a request is being sent: with each piece all of them are matched, and a peer may drip them."""
_INTERIM = rb"(?:HTTP/1\.\d 1\d\d[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)*"
_ANSWER = re.compile(_INTERIM + rb"(HTTP/1\.\d [3-9])?")
"""What comes while a request is being sent; the group is an answer that does not want the rest of it."""
_T = TypeVar("_T")


class Stream(httpcore.AsyncNetworkStream):
    """A connected socket as httpcore uses it. ``close`` never waits; reads and writes under way then fail.

    ``address`` is the peer as text, ``received`` the number of decrypted bytes read so far. Between two reads the
    kernel holds what arrives, so memory stays bounded when the reader is slower than the network.
    """

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self.received = 0
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._wait: asyncio.Timeout | None = None
        self._closed = False
        self._ahead = b""
        self._is_watched = False

    @property
    def is_quiet(self) -> bool:
        """Whether the connection is open and no byte waits to be read, as reuse demands."""
        if self._closed or self._ahead or self._incoming.pending or (self._tls is not None and self._tls.pending()):
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS and verify that the peer is ``host``. Raises OSError. The caller sets the bound, by cancelling."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        await self._over_tls(self._tls.do_handshake)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """Return what has arrived, at least one byte, or nothing at the peer's end.

        Raises httpx.ReadTimeout, httpx.ReadError after ``close``, and OSError. TLS that ends without close_notify is
        an ssl.SSLEOFError: the peer's end may have been forged (RFC 8446, section 6.1).
        """
        self._refuse_if_closed()
        if self._ahead:
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            self.received += len(data)
            return data
        tls = self._tls
        work = self._receive(max_bytes) if tls is None else self._over_tls(tls.read, max_bytes)
        data = await self._bounded(work, timeout, httpx.ReadTimeout)
        self.received += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Send ``buffer``; the bound is on each 64 KiB. Raises httpx.WriteTimeout and httpcore.WriteError.

        httpcore takes a WriteError for a peer that may have answered early and looks for that answer. So it is one
        where an answer of 300 or more comes while more than a piece is being sent (libcurl stops sending then too), and
        where the peer takes no more after any other.
        """
        self._refuse_if_closed()
        try:
            with self._looking_ahead() if len(buffer) > _PIECE_BYTES else contextlib.nullcontext():
                await self._write_pieces(buffer, timeout)
        except OSError as exc:
            raise httpcore.WriteError from exc
        except httpx.WriteTimeout as exc:
            if self._ahead[_answer(self._ahead).end() :] or self._is_refused:
                raise httpcore.WriteError from exc
            raise

    async def _write_pieces(self, buffer: bytes, timeout: float | None) -> None:  # noqa: ASYNC109
        for start in range(0, len(buffer), _PIECE_BYTES):
            piece = buffer[start : start + _PIECE_BYTES]
            work = self._send(piece) if self._tls is None else self._over_tls(self._tls.write, piece)
            await self._bounded(work, timeout, httpx.WriteTimeout)
            if len(piece) == _PIECE_BYTES:  # let the loop turn, however fast the peer takes them
                await asyncio.sleep(0)
                self._refuse_if_closed()
            if self._is_refused:
                raise httpcore.WriteError

    async def aclose(self) -> None:
        """Drop the connection now."""
        self.close()

    def close(self) -> None:
        """Drop the connection now, whatever is still to be sent or read."""
        self._closed = True
        if self._wait is None:
            self._drop()
        else:  # a socket that the loop watches must not be closed: wake the task that waits, and it closes
            self._wait.reschedule(self._loop.time())

    def get_extra_info(self, info: str) -> Any:
        """Answer httpcore, which asks an idle connection whether it ``is_readable``."""
        return not self.is_quiet if info == "is_readable" else None

    async def _bounded(
        self,
        work: Coroutine[Any, Any, _T],
        timeout: float | None,  # noqa: ASYNC109 - it is named in the error
        expired: type[httpx.TimeoutException],
    ) -> _T:
        limit = self._wait = asyncio.timeout(timeout)
        try:
            async with limit:
                return await work
        except TimeoutError:
            self._refuse_if_closed()
            if not limit.expired():  # the kernel's own
                raise
            raise expired(f"no progress for {timeout:g} s") from None
        finally:
            self._wait = None
            if self._closed:
                self._drop()

    @property
    def _is_refused(self) -> bool:
        return _answer(self._ahead)[1] is not None

    @contextlib.contextmanager
    def _looking_ahead(self) -> Iterator[None]:
        """Read what comes meanwhile, as far as there is room; a refusal wakes the task that sends."""
        self._loop.add_reader(self._sock, self._look_ahead)
        self._is_watched = True
        try:
            yield
        finally:
            self._unwatch()

    def _look_ahead(self) -> None:
        try:
            data = self._sock.recv(_AHEAD_BYTES)
            if self._tls is not None and data:
                self._incoming.write(data)
                data = self._tls.read(_PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:  # whoever sends, or reads afterwards, gets it or the end
            data = b""
        self._ahead += data
        if not data or len(self._ahead) >= _AHEAD_BYTES or self._is_refused:
            self._unwatch()
        if self._is_refused and self._wait is not None:
            self._wait.reschedule(self._loop.time())

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._sock)

    def _drop(self) -> None:
        self._unwatch()
        self._sock.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise httpx.ReadError("the connection was closed on this side") from None

    async def _receive(self, size: int) -> bytes:
        # While the kernel has bytes, sock_recv does not wait: without this turn a fast peer would hold the loop.
        await asyncio.sleep(0)
        return await self._loop.sock_recv(self._sock, size)

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def _over_tls(self, step: Callable[..., _T], *arguments: object) -> _T:
        """Call a method of the TLS object until it has the bytes that it needs."""
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._receive(_PIECE_BYTES):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._send(data)


def _answer(data: bytes) -> re.Match[bytes]:
    found = _ANSWER.match(data)
    assert found is not None  # it matches nothing at all too
    return found
