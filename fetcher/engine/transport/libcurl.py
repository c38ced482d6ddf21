"""The fast transport: from an httpx.Request to an httpx.Response through libcurl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache

import httpx

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.errors import BlockedAddress
from fetcher.engine.transport.curl_driver import Driver
from fetcher.engine.transport.curl_options import (
    SAFE,
    Kind,
    Order,
    common_options,
    exact_target,
    header_lines,
    is_method,
    method_options,
    read_body,
    split_url,
)
from fetcher.engine.transport.curl_transfer import CurlTransfer
from fetcher.engine.transport.failures import ClosedBeforeAnswer
from fetcher.engine.transport.messages import Answer, PreparedRequest, WholeBody
from fetcher.engine.transport.network import allowed_addresses, is_literal
from fetcher.engine.transport.options import ConnectionOptions, proxy_place
from fetcher.engine.transport.resolver import Resolver
from fetcher.engine.transport.wire import WIRE, Wire

_KEPT_LINES = 256
_KEPT_LINES_BYTES = 4096
"""Longer headers are prepared each time: what a server sends, such as a validator, comes back in them."""
_KEPT_PLACES = 4096
_KEPT_KINDS = 32
"""Methods are free: a list could name a new one for each request."""

Place = tuple[str, int]
"""A name and a port."""

Timeouts = Mapping[str, float | None]


class LibcurlTransport(httpx.AsyncBaseTransport):
    """HTTP without cookies, redirects, decoding or anything from the environment.

    ``timeouts`` are seconds by phase (``connect``, ``read``, ``write``) for requests that carry none of their own;
    ``read`` is the time without any progress, while sending too. ``connections`` is how many are kept in all. Names are
    looked up by ``resolver``, and libcurl gets the addresses. A request's body is read into memory before it is sent.
    Raises only httpx.TransportError and its children. Belongs to one event loop.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        resolver: Resolver,
        timeouts: Timeouts,
        *,
        connections: int = 100,
        options: ConnectionOptions | None = None,
    ) -> None:
        self._policy = policy
        # Asked for each connection, and for each request to an address; there are few.
        self._judge = lru_cache(maxsize=4096)(policy.judge)
        self._resolver = resolver
        self._timeouts = timeouts
        self._options = options or ConnectionOptions()
        self._proxy = proxy_place(self._options.proxy) if self._options.proxy else None
        self._forwarded = self._options.proxy.startswith("http")
        self._loop = asyncio.get_running_loop()
        self._driver = Driver(connections, multiplexed=self._options.http2)
        self._common = common_options(self._options)
        self._spare: dict[Kind, list[CurlTransfer]] = {}
        self._transfers: set[CurlTransfer] = set()
        self._lines: dict[int, tuple[object, list[bytes]]] = {}
        self._places: dict[Place, tuple[tuple[str, ...], str]] = {}
        self._stall: asyncio.TimerHandle | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the answer as soon as its head is here.

        A Wire in the extension ``trawl.wire`` is filled on the way. A safe request that finds its kept-alive
        connection closed before one byte of the answer is sent once more, on another (RFC 9112, section 9.3.1).
        """
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        wire = request.extensions.get(WIRE) or Wire()
        order = await self._order(request, wire)
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        transfer = self._begin(request.method, order)
        try:
            while transfer.head is None and not transfer.over:
                await transfer.wait()
        except BaseException:  # cancelled: the handle is free, and the connection closed, at once
            transfer.note(wire)
            transfer.stop(httpx.ReadError("cancelled"))
            self._give_back(transfer)
            raise
        transfer.note(wire)
        head = transfer.head
        if head is None:
            failure = transfer.failure
            self._give_back(transfer)
            assert failure is not None
            raise failure
        if transfer.over:
            stream: httpx.AsyncByteStream = WholeBody(transfer.take(), transfer.failure)
            self._give_back(transfer)
        else:
            stream = _Streamed(self, transfer)
        return Answer(head, stream)

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        if self._closed:
            return
        self._closed = True
        self._resolver.close()
        if self._stall is not None:
            self._stall.cancel()
        for transfer in list(self._transfers):
            transfer.stop(httpx.ReadError("the transport was closed"))
        self._driver.close()
        for spare in self._spare.values():
            for transfer in spare:
                transfer.close()
        self._spare.clear()

    # Before

    async def _order(self, request: httpx.Request, wire: Wire) -> Order:
        timeouts = request.extensions.get("timeout") or self._timeouts
        connect = timeouts.get("connect")
        if isinstance(request, PreparedRequest):
            target = request.target
            url, host, port = target.href, target.hostname, target.port
            lines = self._cached_lines(request)
            body = request.content_sent or b""
        else:
            url, host, port = split_url(request.url)
            lines = header_lines(request.headers.raw, request.url.netloc)
            body = await read_body(request)
        if request.method not in SAFE and not is_method(request.method):
            raise httpx.LocalProtocolError(f"the request cannot be sent: {request.method!r} is no method")
        resolve = None
        if (wanted := self._to_be_found(host, port)) is not None:
            found = self._resolver.known(wanted[0])
            if found is None:
                found = await self._look_up(wanted[0], connect, wire)
                connect = None if connect is None else max(0.001, connect - (wire.dns or 0))
            resolve = self._told(wanted, found)
        exact = exact_target(url, absolute=self._forwarded and url.startswith("http:")) if "%" in url else None
        return Order(url, exact, host, lines, body, resolve, connect, timeouts.get("read"))

    def _to_be_found(self, host: str, port: int) -> Place | None:
        """Return which name is to be looked up, the host's or the proxy's. Raises BlockedAddress for an address."""
        literal = is_literal(host)
        if literal and (reason := self._judge(host, port)) is not None:
            raise BlockedAddress(reason)
        if self._proxy is not None:
            return None if is_literal(self._proxy[0]) else self._proxy
        return None if literal else (host, port)

    async def _look_up(
        self,
        host: str,
        timeout: float | None,  # noqa: ASYNC109 - it is named in the error
        wire: Wire,
    ) -> tuple[str, ...]:
        """Look a name up. Raises NameResolutionError, httpx.ConnectTimeout, httpx.ProxyError."""
        try:
            found, wire.dns = await self._resolver.look_up(host, timeout)
        except TimeoutError:
            wire.dns = timeout
            raise httpx.ConnectTimeout(f"no connection to {host} within {timeout:g} s") from None
        except httpx.ConnectError as exc:
            if self._proxy is not None:
                raise httpx.ProxyError(f"the proxy cannot be used: {exc}; see FETCHER_PROXY") from exc
            raise
        return found

    def _told(self, place: Place, found: tuple[str, ...]) -> str:
        """Return where a name is, as libcurl is told it. Raises BlockedAddress."""
        known = self._places.get(place)
        if known is not None and known[0] is found:
            return known[1]
        host, port = place
        addresses = found if self._proxy is not None else allowed_addresses(self._policy, host, found, port)
        told = f"+{host}:{port}:{','.join(f'[{one}]' if ':' in one else one for one in addresses)}"
        if len(self._places) >= _KEPT_PLACES:
            self._places.clear()
        self._places[place] = found, told
        return told

    def _cached_lines(self, request: PreparedRequest) -> list[bytes]:
        """Return the header lines of a request; most carry the same headers, in the same object."""
        key = id(request.prepared)
        known = self._lines.get(key)
        if known is not None and known[0] is request.prepared:
            return known[1]
        lines = header_lines(request.prepared, b"")
        if sum(map(len, lines)) > _KEPT_LINES_BYTES:
            return lines
        if len(self._lines) >= _KEPT_LINES:
            self._lines.clear()
        self._lines[key] = request.prepared, lines
        return lines

    # Handles

    def _begin(self, method: str, order: Order) -> CurlTransfer:
        body, fresh = bool(order.body), False
        if method not in SAFE:
            # Without a body libcurl would silently send it twice, where a kept connection turns out to be closed.
            fresh = not body or not self._driver.kept.is_trusted(_server(order.url), self._loop.time())
        kind = method, body, order.target is not None, fresh
        spare = self._spare.get(kind)
        if spare:
            transfer = spare.pop()
        else:
            options = [*self._common, *method_options(kind)]
            transfer = CurlTransfer(self._driver, options, self._judge, kind, proxy=self._proxy is not None)
        self._transfers.add(transfer)
        transfer.begin(order)
        if order.read_timeout is not None:
            self._look_by(self._driver.now + order.read_timeout)
        return transfer

    def _give_back(self, transfer: CurlTransfer) -> None:
        self._transfers.discard(transfer)
        if transfer.kind[0] not in SAFE and transfer.own is not None and transfer.order is not None:
            self._note_keeping(transfer, transfer.own, transfer.order.url)
        transfer.forget()
        if self._closed or (transfer.kind not in self._spare and len(self._spare) >= _KEPT_KINDS):
            transfer.close()
        else:
            self._spare.setdefault(transfer.kind, []).append(transfer)

    def _note_keeping(self, transfer: CurlTransfer, own: Place, url: str) -> None:
        if transfer.failure is None:
            self._driver.note_answer(_server(url), own)
        elif isinstance(transfer.failure, ClosedBeforeAnswer):
            self._driver.kept.note_close(own, self._loop.time())

    def _release(self, transfer: CurlTransfer) -> None:
        """Let a transfer go whose answer is not wanted any more."""
        if transfer in self._transfers:
            transfer.stop(httpx.ReadError("closed"))
            self._give_back(transfer)

    # Time

    def _look_by(self, when: float) -> None:
        """See then whether a transfer moves; one timer for all of them, for every byte would set its own anew."""
        if self._stall is None or self._stall.when() > when:
            if self._stall is not None:
                self._stall.cancel()
            self._stall = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._stall = None
        now = self._loop.time()
        soonest: float | None = None
        for transfer in list(self._transfers):
            stalled_at = transfer.stalled_at()
            if stalled_at is None:  # not connected yet, or held up by its reader: it may begin to wait at any moment
                if not transfer.over and transfer.order is not None and transfer.order.read_timeout is not None:
                    stalled_at = now + transfer.order.read_timeout
            elif stalled_at <= now:
                stalled_at = transfer.stall(now)
            if stalled_at is not None and (soonest is None or stalled_at < soonest):
                soonest = stalled_at
        if soonest is not None:
            self._look_by(soonest)


def _server(url: str) -> str:
    return url[: url.index("/", len("https://"))]


class _Streamed(httpx.AsyncByteStream):
    """A body that is still coming. Closed early, its connection is closed."""

    def __init__(self, transport: LibcurlTransport, transfer: CurlTransfer) -> None:
        self._transport = transport
        self._transfer: CurlTransfer | None = transfer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (transfer := self._transfer) is not None:
                if transfer.chunks:
                    yield transfer.take()
                elif not transfer.over:
                    await transfer.wait()
                elif transfer.failure is not None:
                    raise transfer.failure
                else:
                    return
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            self._transport._release(transfer)
