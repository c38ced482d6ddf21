"""From an httpx.Request to an httpx.Response whose stream is raw bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import certifi
import httpx

from fetcher.engine.transport.failures import FOREIGN, ClosedBeforeAnswer, exchange_failure
from fetcher.engine.transport.http1 import Connection, Timeouts
from fetcher.engine.transport.network import Dialler
from fetcher.engine.transport.pool import IdlePool, Origin
from fetcher.engine.transport.wire import WIRE, Wire

_PORTS = {"http": 80, "https": 443}
_SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}  # RFC 9110, section 9.2.1


class HttpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 without cookies, proxies, redirects, decoding or anything from the environment.

    ``timeouts`` are seconds by phase (``connect``, ``read``, ``write``) for requests that carry none of their own.
    Raises only httpx.TransportError and its children. Belongs to one event loop.
    """

    def __init__(self, dialler: Dialler, idle: IdlePool, timeouts: Timeouts) -> None:
        self._dialler = dialler
        self._idle = idle
        self._timeouts = timeouts
        self._active: set[Connection] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the answer as soon as its head is here.

        A Wire in the extension ``trawl.wire`` is filled on the way. A safe request that finds its kept-alive
        connection closed before one byte of the answer is sent once more, on a new one (RFC 9112, section 9.3.1).
        """
        wire = request.extensions.get(WIRE) or Wire()
        timeouts = request.extensions.get("timeout") or self._timeouts
        origin = _origin(request.url)
        kept = self._idle.take(origin)
        if kept is not None:
            wire.reused, wire.address = True, kept.stream.address
            try:
                return await self._exchange(kept, origin, request, timeouts, wire)
            except ClosedBeforeAnswer:
                if request.method.upper() not in _SAFE or not isinstance(request.stream, httpx.ByteStream):
                    raise
                wire.reused, wire.address = False, None
        stream = await self._dialler.dial(*origin, timeouts.get("connect"), wire)
        if self._closed:
            stream.close()
            raise httpx.ConnectError("the transport is closed")
        return await self._exchange(Connection(stream), origin, request, timeouts, wire)

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        self._closed = True
        self._idle.close()
        self._dialler.close()
        for connection in list(self._active):
            connection.close()
        # The loop closes the sockets at its next turn.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _exchange(
        self, connection: Connection, origin: Origin, request: httpx.Request, timeouts: Timeouts, wire: Wire
    ) -> httpx.Response:
        self._active.add(connection)
        try:
            head = await connection.exchange(request, timeouts)
        except FOREIGN as exc:
            self._drop(connection)
            raise exchange_failure(exc) from exc
        except BaseException:
            self._drop(connection)
            raise
        version = b"HTTP/" + head.http_version
        wire.http_version = version.decode("ascii")
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=_Body(self, connection, origin, timeouts),
            extensions={"http_version": version, "reason_phrase": head.reason},
        )

    def _drop(self, connection: Connection) -> None:
        self._active.discard(connection)
        connection.close()

    def _keep(self, connection: Connection, origin: Origin) -> None:
        self._active.discard(connection)
        if not self._closed and connection.renew():
            self._idle.put(origin, connection)
        else:
            connection.close()


class _Body(httpx.AsyncByteStream):
    """The raw body. Read to its end the connection is kept, closed early it is closed."""

    def __init__(self, transport: HttpTransport, connection: Connection, origin: Origin, timeouts: Timeouts) -> None:
        self._transport = transport
        self._connection = connection
        self._origin = origin
        self._timeouts = timeouts
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            # Once it is over, the connection may already serve another request.
            while not self._over and (chunk := await self._connection.read_body(self._timeouts)):
                yield chunk
        except FOREIGN as exc:
            self._give_up()
            raise exchange_failure(exc) from exc
        except BaseException:
            self._give_up()
            raise
        self._hand_back()

    async def aclose(self) -> None:
        if self._over:
            return
        # A short body that is already here, or none at all, need not cost the connection.
        try:
            self._connection.skip()
        except FOREIGN:
            self._give_up()
        else:
            self._hand_back()

    def _hand_back(self) -> None:
        if not self._over:
            self._over = True
            self._transport._keep(self._connection, self._origin)

    def _give_up(self) -> None:
        if not self._over:
            self._over = True
            self._transport._drop(self._connection)


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"only http and https can be fetched, not {url.scheme or 'no scheme'}")
    if not url.host:
        raise httpx.UnsupportedProtocol("the URL has no host")
    return url.scheme, url.raw_host.decode("ascii").strip("[]").lower(), url.port or _PORTS[url.scheme]


def verifying_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a TLS context that trusts ``ca_file`` (certifi's bundle by default) and nothing from the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file or certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
