"""From an httpx.Request to an httpx.Response through httpcore, the library below httpx."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping

import certifi
import httpcore
import httpx

from fetcher.engine.transport.failures import FOREIGN, ClosedBeforeAnswer, exchange_failure
from fetcher.engine.transport.http1 import Connection, Pace
from fetcher.engine.transport.messages import PreparedRequest
from fetcher.engine.transport.network import Dialler
from fetcher.engine.transport.pool import IdlePool, Origin
from fetcher.engine.transport.wire import WIRE, Wire

_PORTS = {"http": 80, "https": 443}
_IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}  # RFC 9110, section 9.2.2
_IDLE_SECONDS = 30.0

Timeouts = Mapping[str, float | None]


class HttpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 without cookies, proxies, redirects, decoding or anything from the environment.

    ``timeouts`` are seconds by phase (``connect``, ``read``, ``write``) for requests that carry none of their own;
    ``connections`` is how many idle ones are kept. Raises only httpx.TransportError and its children. Belongs to one
    event loop.
    """

    def __init__(self, dialler: Dialler, timeouts: Timeouts, *, connections: int = 100) -> None:
        self._dialler = dialler
        self._timeouts = timeouts
        self._idle = IdlePool(connections)
        self._active: set[Connection] = set()
        self._pace = Pace()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the answer as soon as its head is here.

        A Wire in the extension ``trawl.wire`` is filled on the way. A request whose kept connection ends before one
        byte of the answer is sent once more, on a new connection, if its method is idempotent (RFC 9110, section 9.2.2)
        or the server cannot have received all of it.
        """
        wire = request.extensions.get(WIRE) or Wire()
        timeouts = request.extensions.get("timeout") or self._timeouts
        origin, sent = _translated(request, timeouts)
        kept = self._idle.take(origin)
        if kept is not None:
            wire.reused, wire.address = True, kept.stream.address
            try:
                return await self._exchange(kept, origin, sent, wire)
            except ClosedBeforeAnswer:
                unrepeatable = kept.has_sent_all and request.method.upper() not in _IDEMPOTENT
                if unrepeatable or not isinstance(request.stream, httpx.ByteStream):
                    raise
                wire.reused, wire.address = False, None
        stream = await self._dialler.dial(*origin, timeouts.get("connect"), wire)
        if self._closed:
            stream.close()
            raise httpx.ConnectError("the transport is closed")
        connection = Connection(sent.url.origin, stream, _IDLE_SECONDS, self._pace)
        return await self._exchange(connection, origin, sent, wire)

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        self._closed = True
        self._idle.close()
        self._dialler.close()
        for connection in list(self._active):
            connection.stream.close()

    async def _exchange(
        self, connection: Connection, origin: Origin, sent: httpcore.Request, wire: Wire
    ) -> httpx.Response:
        before = connection.stream.received
        self._active.add(connection)
        try:
            response = await connection.handle_async_request(sent)
        except FOREIGN as exc:
            self.release(connection, origin)
            if connection.stream.received == before and isinstance(exc, (OSError, EOFError)):
                raise ClosedBeforeAnswer("the server closed the connection before answering") from exc
            raise exchange_failure(exc) from exc
        except BaseException:
            self.release(connection, origin)
            raise
        version: bytes = response.extensions["http_version"]
        wire.http_version = version.decode("ascii")
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(self, response, connection, origin),
            extensions={"http_version": version, "reason_phrase": response.extensions["reason_phrase"]},
        )

    def release(self, connection: Connection, origin: Origin) -> None:
        """Keep a connection that its answer left idle, close any other."""
        if connection in self._active:
            self._active.remove(connection)
            if connection.is_idle() and not self._closed:
                self._idle.put(origin, connection)
            else:
                connection.stream.close()


class _Body(httpx.AsyncByteStream):
    """The raw body. Read to its end the connection is kept, closed early it is closed."""

    def __init__(
        self, transport: HttpTransport, response: httpcore.Response, connection: Connection, origin: Origin
    ) -> None:
        self._transport = transport
        self._response = response
        self._connection = connection
        self._origin = origin

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_stream():
                yield chunk
        except FOREIGN as exc:
            raise exchange_failure(exc) from exc
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._response.aclose()
        self._transport.release(self._connection, self._origin)


def _translated(request: httpx.Request, timeouts: Timeouts) -> tuple[Origin, httpcore.Request]:
    """Return where a request goes and what httpcore sends. A prepared one's target is sent as it was given."""
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the body of the request cannot be sent: it is no async stream")
    url = request.url
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"only http and https can be fetched, not {url.scheme or 'no scheme'}")
    if not url.host:
        raise httpx.UnsupportedProtocol("the URL has no host")
    target = url.raw_path
    if isinstance(request, PreparedRequest):
        target = b"/" + request.target.href.encode("ascii").split(b"/", 3)[3]
    host, port = url.raw_host.decode("ascii").strip("[]").lower(), url.port or _PORTS[url.scheme]
    place = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=target)
    sent = httpcore.Request(
        request.method,
        place,
        headers=request.headers.raw,
        content=request.stream,
        extensions={"timeout": timeouts},
    )
    return (url.scheme, host, port), sent


def verifying_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a TLS context that trusts ``ca_file`` (certifi's bundle by default) and nothing from the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file or certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
