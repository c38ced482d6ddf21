"""One request at a time through one of libcurl's handles, which is used again and again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pycurl

from fetcher.engine.descriptors import local_fault
from fetcher.engine.errors import BlockedAddress
from fetcher.engine.transport.curl_driver import Driver
from fetcher.engine.transport.curl_failures import Circumstances, curl_failure, interim_failure, shortfall
from fetcher.engine.transport.curl_options import Judge, Kind, Options, Order
from fetcher.engine.transport.curl_socket import OpenedSocket, note_phases, open_socket
from fetcher.engine.transport.head import Head, parse_head
from fetcher.engine.transport.wire import Wire

HIGH_WATER = 256 * 2**10
"""Bytes that may wait for their reader; then the sender is held up."""
_PIECE_BYTES = 2**10
"""What a piece counts for besides its own bytes: a server may send them one byte at a time."""
_NO_END = 2**64

_REFUSED: int = pycurl.SOCKET_BAD
_GO_ON: int = pycurl.PREREQFUNC_OK
_STOP: int = pycurl.PREREQFUNC_ABORT

_EMPTY = (b"\r\n", b"\n")


class CurlTransfer:
    """A handle for requests of one ``kind``; ``options`` are libcurl's, ``judge`` is asked before it connects."""

    def __init__(
        self,
        driver: Driver,
        options: Options,
        judge: Judge,
        kind: Kind,
        *,
        proxy: bool,
    ) -> None:
        self.kind = kind
        self._driver = driver
        self._judge = judge
        self._proxy = proxy
        self._lines: list[bytes] | None = None
        self._connect_timeout: float | None = None
        self._fresh = False
        self.order: Order | None = None
        curl = self.curl = pycurl.Curl()
        for option, value in options:
            curl.setopt(option, value)
        curl.setopt(pycurl.WRITEFUNCTION, self._write)
        curl.setopt(pycurl.HEADERFUNCTION, self._header)
        curl.setopt(pycurl.READFUNCTION, self._read)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        curl.setopt(pycurl.PREREQFUNCTION, self._ready)

    def begin(self, order: Order) -> None:
        """Start sending. ``failure`` says afterwards what went wrong, ``head`` what came."""
        self.order = order
        self.head: Head | None = None
        self.failure: Exception | None = None
        self.over = False
        self.chunks: list[bytes] = []
        self._lines_of_head: list[bytes] = []
        self._buffered = 0
        self._received = 0
        self._sent = 0
        self._interim = 0
        self._enough = _NO_END
        self._paused = self._held = self._whole = False
        self._refused: httpx.TransportError | None = None
        self._tried: list[str] = []
        self._stale = False
        self.address: str | None = None
        self.own: tuple[str, int] | None = None
        self._active_at: float | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unheard = self._announced = False
        curl = self.curl
        if self._fresh:
            curl.setopt(pycurl.FRESH_CONNECT, int(self.kind[3]))
            self._fresh = False
        curl.setopt(pycurl.URL, order.url)
        if order.target is not None:
            curl.setopt(pycurl.REQUEST_TARGET, order.target)
        if order.lines is not self._lines:
            curl.setopt(pycurl.HTTPHEADER, order.lines)
            self._lines = order.lines
        if order.connect_timeout != self._connect_timeout:
            curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round((order.connect_timeout or 0) * 1000)))
            self._connect_timeout = order.connect_timeout
        if order.resolve is not None:
            curl.setopt(pycurl.RESOLVE, [order.resolve])
        if order.body:
            curl.setopt(pycurl.INFILESIZE_LARGE, len(order.body))
        self._driver.start(self)

    async def wait(self) -> None:
        """Wait for news since the last time: the head, bytes, the end."""
        if not self._unheard:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._unheard = False

    def take(self) -> bytes:
        """Return the bytes that have come."""
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self._buffered = 0
        if self._paused and not self.over:
            self._paused = False
            self._active_at = self._driver.now
            self._driver.resume(self)
        return data

    def hold(self) -> bool:
        """Receive nothing more until ``go_on``; whether that is possible: a head is always received."""
        if self.head is None or self._paused or self._held:
            return False
        try:
            self.curl.pause(pycurl.PAUSE_RECV)
        except pycurl.error:  # it came to its end just now
            return False
        self._held = True
        return True

    def go_on(self) -> None:
        """Receive again, as far as there is room for it."""
        self._held = False
        if not self._paused:
            self._active_at = self._driver.now
            with contextlib.suppress(pycurl.error):  # as above
                self.curl.pause(pycurl.PAUSE_CONT)

    def stop(self, failure: Exception | None) -> None:
        """End the transfer now."""
        if not self.over:
            self._driver.cancel(self)
            self._end(failure)

    def stalled_at(self) -> float | None:
        """Return when the wait for progress is over (the loop's time), None while somebody else is waited for."""
        if self._active_at is None or self._paused or self._held or self.over:
            return None
        assert self.order is not None
        return None if self.order.read_timeout is None else self._active_at + self.order.read_timeout

    def stall(self, now: float) -> float | None:
        """End the transfer if nothing moved; else return when the wait for progress is over."""
        assert self.order is not None
        self._active_at = max(self._active_at or 0.0, self._driver.heard(self))
        if (when := self.stalled_at()) is None or when > now:
            return when
        if self._sent < len(self.order.body) and self.head is None:
            self.stop(httpx.WriteTimeout("the request could not be sent"))
        elif self.head is not None and self._received == self.head.length:  # only more of the request could be sent
            self.stop(None)
        else:
            self.stop(httpx.ReadTimeout("no bytes came"))
        return None

    def note(self, wire: Wire) -> None:
        """Write down how far it came."""
        if self.head is not None:
            wire.http_version = self.head.shown
        wire.address = self.address
        wire.reused = self.address is not None and not self._tried
        if self._tried:
            in_handshake = self.address is None and self.order is not None and self.order.url.startswith("https:")
            if note_phases(self.curl, wire, in_handshake=in_handshake):
                wire.address = self.address or self._tried[-1]

    def forget(self) -> None:
        """Keep nothing of the request and its answer."""
        self.order = self.head = self.failure = None
        self._lines_of_head.clear()
        self.chunks.clear()

    def close(self) -> None:
        """Let the handle go; it must be in no driver."""
        self.curl.close()

    # What the driver calls

    def news(self) -> None:
        """Wake whoever waits for the head or for more of the body."""
        if self._announced:  # or it is old: of a request that this handle had before
            self._announced = False
            self._wake()

    def ended(self, code: int, message: str) -> None:
        """Note the end, and wake whoever waits."""
        if self._stale:
            self._start_anew()
        elif self._whole:  # libcurl would have waited for more
            self._end(None)
        elif code:
            refused = self.failure or self._refused
            self._end(refused or curl_failure(code, message, self._circumstances()))
        elif self.head is None:
            # libcurl takes the end of the stream for the end of the head.
            self._end(httpx.RemoteProtocolError("the server closed the connection in the middle of the head"))
        else:
            self._end(shortfall(self.head, self.kind[0], self._received))

    def _start_anew(self) -> None:
        """Begin again on a new connection; nothing was sent on the old one."""
        self._stale = False
        self.address = None
        self.curl.setopt(pycurl.FRESH_CONNECT, 1)
        self._fresh = True
        self._driver.start(self)

    def _end(self, failure: Exception | None) -> None:
        self.over = True
        self.failure = failure
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self._unheard = True

    def _circumstances(self) -> Circumstances:
        assert self.order is not None
        return Circumstances(
            host=self.order.host,
            tried=tuple(self._tried),
            system=self.curl.getinfo(pycurl.OS_ERRNO),
            answered=self.head is not None,
            received=self._received or len(self._lines_of_head),
            length=None if self.head is None else self.head.length,
            connect_timeout=self.order.connect_timeout,
            proxy=self._proxy,
        )

    # What libcurl calls, inside of the driver: nothing here may use the handle, or raise.

    def _open(self, purpose: int, address: Any) -> OpenedSocket | int:
        ip, port = address.addr[:2]
        self._tried.append(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
        if not self._proxy and (reason := self._judge(ip, port)) is not None:
            self._refused = BlockedAddress(reason)
            return _REFUSED
        try:
            return open_socket(address.family, address.socktype, address.protocol)
        except OSError as exc:
            self._refused = local_fault(exc.errno) or httpx.ConnectError(str(exc))
            return _REFUSED

    def _ready(self, peer: str, own: str, peer_port: int, own_port: int) -> int:
        if self._driver.is_stale((own, own_port), kept=not self._tried):
            self._stale = True
            return _STOP
        self._active_at = self._driver.now
        self.own = own, own_port
        self.address = f"[{peer}]:{peer_port}" if ":" in peer else f"{peer}:{peer_port}"
        return _GO_ON

    def _read(self, most: int) -> bytes:
        assert self.order is not None
        start, self._sent = self._sent, min(self._sent + most, len(self.order.body))
        self._active_at = self._driver.now
        return self.order.body[start : self._sent]

    def _header(self, line: bytes) -> int | None:
        if len(line) > 2 or line not in _EMPTY:
            self._lines_of_head.append(line)
            return None
        lines, self._lines_of_head = self._lines_of_head, []
        if self.head is not None or not lines:  # trailers
            return None
        self._active_at = self._driver.now
        try:
            head = parse_head(lines)
        except httpx.RemoteProtocolError as exc:
            self.failure = exc
            return 0  # ends the transfer
        if head.status < 200:
            self._interim += 1
            self.failure = interim_failure(head.status, self._interim)
            return None if self.failure is None else 0
        self.head = head
        self._announce()
        if head.own_length is None:
            return None
        self._enough = head.own_length
        self._whole = not self._enough
        return 0 if self._whole else None

    def _write(self, chunk: bytes) -> int | None:
        if self._buffered >= HIGH_WATER:
            self._paused = True
            return int(pycurl.WRITEFUNC_PAUSE)
        self._active_at = self._driver.now
        self.chunks.append(chunk)
        self._buffered += len(chunk) + _PIECE_BYTES
        self._received += len(chunk)
        self._announce()
        return None if self._received < self._enough else self._cut()

    def _cut(self) -> int:
        """End a body at its own length, as libcurl does not: it would wait until the connection ends."""
        if excess := self._received - self._enough:
            self.chunks[-1] = self.chunks[-1][:-excess]
        self._whole = True
        return 0  # ends the transfer

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            self._driver.has_news(self)
