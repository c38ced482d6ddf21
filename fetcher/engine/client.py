"""One hop: an ``httpx.Request`` to the transport, the answer's body read within bounds; and where a redirect leads.

The request goes straight to the transport. ``httpx.AsyncClient`` would add cookies, environment proxies and its own
redirects, none of which are wanted here, and costs more than the request itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import httpx

from fetcher.engine.config import ConfigError, FetchConfig, resolve_header
from fetcher.engine.decoding import ACCEPT_ENCODING, BodyDecoder, refuse_declared_length
from fetcher.engine.errors import ErrorKind, FetchError, TooManyRedirects, fetch_error
from fetcher.engine.transport import WIRE, Wire
from fetcher.engine.types import Headers, Target, Validators
from fetcher.engine.urls import Url, join_url, parse_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
CONDITIONAL_HEADERS = frozenset({"if-none-match", "if-modified-since"})
_VALIDATED = frozenset({"GET", "HEAD"})
"""With other methods If-None-Match means something else: do not act on what exists (RFC 9110, section 13.1.2)."""
_CONTENT_HEADERS = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
_DRAINED = 64 * 2**10
"""Bytes of a redirect's body that are read to keep the connection; a longer one is cut off."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of an attempt. Header values are as configured: ``env:NAME`` is looked up when it is sent."""

    url: Url
    method: str
    headers: Headers
    body: bytes | None = None
    validators: Validators | None = None
    number: int = 0


@dataclass(slots=True)
class Exchange:
    """What is known of one hop, filled in as far as it came. ``first_byte`` is seconds from the hop's start."""

    wire: Wire = field(default_factory=Wire)
    conditional: bool = False
    status: int | None = None
    headers: Headers = ()
    body: bytes | None = None
    first_byte: float | None = None

    def header(self, name: str) -> str | None:
        """Return the first value of a response header by its lower-case name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Client:
    """Sends hops through a transport under a configuration."""

    def __init__(self, transport: httpx.AsyncBaseTransport, config: FetchConfig) -> None:
        self._transport = transport
        self._config = config
        self._timeouts = {
            "connect": config.connect_timeout,
            "read": config.read_timeout,
            "write": config.read_timeout,
            "pool": config.connect_timeout,
        }
        self._defaults = (
            ("User-Agent", config.user_agent),
            ("Accept", "*/*"),
            ("Accept-Encoding", ACCEPT_ENCODING),
        )

    def first_hop(self, target: Target) -> Hop:
        """Return the request that a target asks for. Raises InvalidUrl."""
        headers = effective_headers(self._defaults, self._config.headers, target.headers)
        return Hop(parse_url(target.url), target.method, headers, target.body, target.validators)

    def next_hop(self, hop: Hop, exchange: Exchange) -> Hop | None:
        """Return the request that a redirect asks for, or None where the answer is the last.

        Methods change as in RFC 9110, section 15.4; secrets are dropped when the origin changes. Raises InvalidUrl,
        TooManyRedirects.
        """
        location = self._redirects_to(exchange)
        if location is None:
            return None
        if hop.number >= self._config.max_redirects:
            raise TooManyRedirects(f"more than {self._config.max_redirects} redirects (--max-redirects)", answered=True)
        url = join_url(hop.url.href, location)
        method, headers, body = hop.method, hop.headers, hop.body
        if (exchange.status == 303 and method != "HEAD") or (exchange.status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = tuple(pair for pair in headers if pair[0].lower() not in _CONTENT_HEADERS)
        if url.origin != hop.url.origin:
            headers = tuple(pair for pair in headers if not self._config.is_secret(*pair))
        return Hop(url, method, headers, body, hop.validators, hop.number + 1)

    def _redirects_to(self, exchange: Exchange) -> str | None:
        """Return the Location that is to be followed; an empty one would lead back to where it came from."""
        if exchange.status not in REDIRECTS or self._config.max_redirects == 0:
            return None
        location = exchange.header("location")
        # Header values are read as Latin-1, but servers that do not encode their Location send UTF-8.
        with contextlib.suppress(UnicodeDecodeError):
            location = location and location.encode("latin-1").decode()
        return location or None

    async def send(self, hop: Hop, exchange: Exchange, *, budget: float) -> None:
        """Send one hop and read its answer into ``exchange`` within ``budget`` seconds.

        The body of a redirect that will be followed is not kept. Raises FetchError for whatever goes wrong.
        """
        request = self._request(hop, exchange)
        try:
            async with asyncio.timeout(budget) as limit:
                await self._exchange(request, exchange)
        except TimeoutError:
            text = "no answer" if exchange.status is None else "the answer was not complete"
            if limit.expired():
                text += f" when the time for the attempt was up, {budget:.3g} s (--deadline, --total-deadline)"
            raise FetchError(
                text, kind=ErrorKind.TIMEOUT, retryable=True, answered=exchange.status is not None
            ) from None
        except FetchError as exc:
            exc.answered = exchange.status is not None
            raise
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise fetch_error(
                exc,
                connect=self._config.connect_timeout,
                read=self._config.read_timeout,
                answered=exchange.status is not None,
            ) from exc

    def _request(self, hop: Hop, exchange: Exchange) -> httpx.Request:
        headers = hop.headers
        fits = hop.validators and hop.validators.url == hop.url.href and hop.method in _VALIDATED
        if hop.validators and fits and not _conditional(headers):
            headers = (*headers, *conditional_headers(hop.validators))
        exchange.conditional = _conditional(headers)
        try:
            # As bytes: httpx takes text for ASCII, and obs-text (RFC 9110, section 5.5) is allowed.
            resolved = [(name.encode(), resolve_header(name, value).encode("latin-1")) for name, value in headers]
        except ConfigError as exc:
            raise FetchError(str(exc), kind=ErrorKind.INTERNAL) from None
        try:
            return httpx.Request(
                hop.method,
                hop.url.href,
                headers=resolved,
                content=hop.body,
                extensions={"timeout": self._timeouts, WIRE: exchange.wire},
            )
        except httpx.InvalidURL as exc:
            raise FetchError(str(exc), kind=ErrorKind.INVALID_URL) from exc

    async def _exchange(self, request: httpx.Request, exchange: Exchange) -> None:
        began = time.monotonic()
        response = await self._transport.handle_async_request(request)
        try:
            exchange.first_byte = time.monotonic() - began
            exchange.headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in
                                     response.headers.raw)  # fmt: skip
            exchange.status = response.status_code
            if self._redirects_to(exchange) is not None:
                await _drain(response)
            else:
                exchange.body = await self._read(request, response)
        finally:
            await response.aclose()

    async def _read(self, request: httpx.Request, response: httpx.Response) -> bytes:
        headers = response.headers
        coding = headers.get("content-encoding", "")
        if not coding and request.method != "HEAD" and response.status_code not in (204, 304):
            refuse_declared_length(headers.get("content-length", ""), self._config.max_body)
        decoder = BodyDecoder(coding, self._config.max_body)
        body = bytearray()
        async for chunk in _raw(response):
            for piece in decoder.feed(chunk):
                body += piece
        decoder.finish()
        return bytes(body)


def _raw(response: httpx.Response) -> httpx.AsyncByteStream:
    """Return the body as on the wire: ``Response.aiter_raw`` costs more and gives the same."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    return stream


async def _drain(response: httpx.Response) -> None:
    read = 0
    async for chunk in _raw(response):
        read += len(chunk)
        if read > _DRAINED:
            break


def _conditional(headers: Headers) -> bool:
    return any(name.lower() in CONDITIONAL_HEADERS for name, _ in headers)


def conditional_headers(validators: Validators) -> Headers:
    """Return the headers of a conditional request (RFC 9110, sections 13.1.2 and 13.1.3)."""
    found = []
    if validators.etag:
        found.append(("If-None-Match", validators.etag))
    if validators.last_modified:
        found.append(("If-Modified-Since", validators.last_modified))
    return tuple(found)


def effective_headers(*layers: Headers) -> Headers:
    """Lay headers over one another: a later layer replaces all values of a name that it gives (in any case)."""
    result: list[tuple[str, str]] = []
    for layer in layers:
        given = {name.lower() for name, _ in layer}
        result = [pair for pair in result if pair[0].lower() not in given] + list(layer)
    return tuple(result)
