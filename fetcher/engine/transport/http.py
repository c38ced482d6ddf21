"""From an httpx.Request to an httpx.Response through httpcore, the library below httpx."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import certifi
import httpcore
import httpx

from fetcher.engine.transport.dialler import Dialler
from fetcher.engine.transport.failures import FOREIGN, ClosedBeforeAnswer, exchange_failure
from fetcher.engine.transport.http1 import Connection, Pace
from fetcher.engine.transport.messages import PreparedRequest
from fetcher.engine.transport.pool import IdlePool
from fetcher.engine.transport.wire import WIRE, Wire

_PORTS = {"http": 80, "https": 443}
_SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}  # RFC 9110, section 9.2.1
_WITH_BODY = {"POST", "PUT", "PATCH"}
"""Methods whose requests tell their length even where it is 0 (RFC 9110, section 8.6)."""

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

        A Wire in the extension ``trawl.wire`` is filled on the way. A safe request whose kept connection ends before
        one byte of the answer is sent once more, on a new one (RFC 9112, section 9.3.1). An unsafe request must not be
        sent twice, so it gets a new connection at once: the server may be closing any kept one.
        """
        wire = request.extensions.get(WIRE) or Wire()
        timeouts = request.extensions.get("timeout") or self._timeouts
        sent = _translated(request, timeouts)
        place = sent.url.origin.scheme, sent.url.origin.host, sent.url.origin.port
        kept = self._idle.take(place) if request.method.upper() in _SAFE else None
        if kept is not None:
            wire.reused, wire.address = True, kept.peer.address
            try:
                return await self._exchange(kept, sent, wire)
            except ClosedBeforeAnswer:
                if not isinstance(request.stream, httpx.ByteStream):
                    raise
                wire.reused, wire.address = False, None
        peer = await self._dialler.dial(*place, timeouts.get("connect"), wire)
        if self._closed:
            peer.close()
            raise httpx.ConnectError("the transport is closed")
        return await self._exchange(Connection(place, peer, self._pace, self._done), sent, wire)

    async def aclose(self) -> None:
        """Close every connection, those in use included."""
        self._closed = True
        self._idle.close()
        self._dialler.close()
        for connection in list(self._active):
            connection.peer.close()

    async def _exchange(self, connection: Connection, sent: httpcore.Request, wire: Wire) -> httpx.Response:
        peer = connection.peer
        before = peer.received
        self._active.add(connection)
        try:
            response = await connection.handle_async_request(sent)
        except httpcore.LocalProtocolError as exc:
            raise exchange_failure(exc.args[0]) from exc  # h11's own
        except FOREIGN as exc:
            if peer.received == before and isinstance(exc, (OSError, EOFError)):
                raise ClosedBeforeAnswer("the server closed the connection before answering") from exc
            raise exchange_failure(exc) from exc
        except BaseException:  # cancelled, perhaps before httpcore began
            self._done(connection)
            raise
        wire.http_version = response.extensions["http_version"].decode("ascii")
        extensions = {name: response.extensions[name] for name in ("http_version", "reason_phrase")}
        body = _Body(response.stream)
        return httpx.Response(response.status, headers=response.headers, stream=body, extensions=extensions)

    def _done(self, connection: Connection) -> None:
        if connection in self._active:
            self._active.remove(connection)
            if connection.is_idle() and not self._closed:
                self._idle.put(connection)
            else:
                connection.peer.close()


class _Body(httpx.AsyncByteStream):
    """The raw body. Read to its end the connection is kept, closed early it is closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except FOREIGN as exc:
            raise exchange_failure(exc) from exc
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _translated(request: httpx.Request, timeouts: Timeouts) -> httpcore.Request:
    """Return a request as httpcore has them. The target of a prepared one is sent as it was given."""
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the body of the request cannot be sent: it is no async stream")
    if isinstance(request, PreparedRequest):
        scheme, host, port = request.target.origin
        authority, _, rest = request.target.href.partition("://")[2].partition("/")
        target, headers = f"/{rest}".encode("ascii"), _headers(request, authority.encode("ascii"))
    else:
        scheme, host, port = _split(request.url)
        target, headers = request.url.raw_path, request.headers.raw
    url = httpcore.URL(scheme=scheme, host=host, port=port, target=target)
    extensions = {"timeout": timeouts}
    return httpcore.Request(request.method, url, headers=headers, content=request.stream, extensions=extensions)


def _split(url: httpx.URL) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises httpx.UnsupportedProtocol."""
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"only http and https can be fetched, not {url.scheme or 'no scheme'}")
    if not url.host:
        raise httpx.UnsupportedProtocol("the URL has no host")
    return url.scheme, url.raw_host.decode("ascii").strip("[]").lower(), url.port or _PORTS[url.scheme]


def _headers(request: PreparedRequest, authority: bytes) -> list[tuple[bytes, bytes]]:
    """Return what ``request.headers`` has, which takes as long as the rest of the request."""
    headers = list(request.prepared)
    names = {name.lower() for name, _ in headers}
    if b"host" not in names:
        headers.insert(0, (b"Host", authority))
    size = len(request.content_sent or b"")
    if (size or request.method in _WITH_BODY) and not names & {b"content-length", b"transfer-encoding"}:
        headers.append((b"Content-Length", b"%d" % size))
    return headers


def verifying_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a TLS context that trusts ``ca_file`` (certifi's bundle by default) and nothing from the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file or certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
