"""One hop: an ``httpx.Request`` to the transport, the answer's body read within bounds; and where a redirect leads.

The request goes straight to the transport. ``httpx.AsyncClient`` would add cookies, environment proxies and its own
redirects, none of which are wanted here, and costs more than the request itself.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import msgspec

from fetcher.engine.bodies import PIECE, SpilledBody, Spilling
from fetcher.engine.config import WIPED, ConfigError, FetchConfig, is_reference, resolve_header
from fetcher.engine.deadlines import Deadlines
from fetcher.engine.decoding import ACCEPT_ENCODING, BodyDecoder, refuse_declared_length, too_large
from fetcher.engine.errors import ErrorKind, FetchError, TooManyRedirects, fetch_error
from fetcher.engine.transport import WIRE, PreparedRequest, Wire
from fetcher.engine.transport.messages import RawHeaders, WholeBody, response_fields
from fetcher.engine.types import Headers, Target, Validators
from fetcher.engine.urls import Url, join_url, known_url

_T = TypeVar("_T")

REDIRECTS = frozenset({301, 302, 303, 307, 308})
CONDITIONAL_HEADERS = frozenset({"if-none-match", "if-modified-since"})
_VALIDATED = frozenset({"GET", "HEAD"})
"""With other methods If-None-Match means something else: do not act on what exists (RFC 9110, section 13.1.2)."""
_CONTENT_HEADERS = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
_NOT_ASCII = re.compile("[\x80-\xff]")
_DRAINED = 64 * 2**10
"""Bytes of a redirect's body that are read to keep the connection; a longer one is cut off."""
_KNOWN_HEADERS = 1024
"""Sets of headers that are kept ready to be sent."""
_KNOWN_HEADERS_CHARS = 4096
"""A longer set is prepared each time: a list, or a server that sets cookies, could fill the memory with them."""


class Hop(msgspec.Struct, frozen=True, gc=False):
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
    body: bytes | SpilledBody | None = None
    first_byte: float | None = None

    def header(self, name: str) -> str | None:
        """Return the first value of a response header by its lower-case name."""
        size = len(name)
        for key, value in self.headers:
            if len(key) == size and key.lower() == name:
                return value
        return None

    def values(self, name: str) -> list[str]:
        """Return all values of a response header by its lower-case name."""
        return [value for key, value in self.headers if key.lower() == name]


class Client:
    """Sends hops through a transport under a configuration. Without ``spilling`` every body is kept in memory."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, config: FetchConfig, spilling: Spilling | None = None
    ) -> None:
        self._transport = transport
        self._config = config
        self._spilling = spilling or Spilling(config.max_body)
        self._deadlines = Deadlines()
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
        self._effective: dict[Headers, Headers] = {}
        self._ready: dict[Headers, _Ready] = {}

    def first_hop(self, target: Target) -> Hop:
        """Return the request that a target asks for. Raises InvalidUrl."""
        own = target.headers
        headers = self._effective.get(own)
        if headers is None:
            headers = effective_headers(self._defaults, self._config.headers, own)
            _remember(self._effective, own, headers)
        return Hop(known_url(target.url), target.method, headers, target.body, target.validators)

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
        if location is None or location.isascii():
            return location or None
        # The text stands for bytes in any encoding (UTF-8, GBK, Shift-JIS). Browsers escape each, so that the server
        # gets back what it wrote.
        return _NOT_ASCII.sub(lambda found: f"%{ord(found[0]):02X}", location)

    async def send(self, hop: Hop, exchange: Exchange, *, budget: float) -> None:
        """Send one hop and read its answer into ``exchange`` within ``budget`` seconds.

        The body of a redirect that will be followed is not kept. Raises FetchError for whatever goes wrong.
        """
        request = self._request(hop, exchange)
        try:
            with self._deadlines.limit(budget) as limit:
                await self._exchange(request, exchange)
        except TimeoutError:
            text = "no answer" if exchange.status is None else "the answer was not complete"
            if limit.expired:
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
        ready = self._prepared(hop.headers)
        if hop.validators is not None and not ready.conditional:
            fits = hop.validators.url == hop.url.href and hop.method in _VALIDATED
            if fits and (conditions := conditional_headers(hop.validators)):
                raw = ready.raw or _raw_headers(hop.headers)
                ready = _Ready((*raw, *_raw_headers(conditions)), conditional=True)
        exchange.conditional = ready.conditional
        raw = ready.raw if ready.raw is not None else _raw_headers(hop.headers)
        return PreparedRequest(hop.method, hop.url, raw, hop.body, {"timeout": self._timeouts, WIRE: exchange.wire})

    def _prepared(self, headers: Headers) -> _Ready:
        """Return headers as they are sent; most requests have the same ones."""
        ready = self._ready.get(headers)
        if ready is None:
            fixed = not any(is_reference(value) or value == WIPED for _, value in headers)
            ready = _Ready(_raw_headers(headers) if fixed else None, _conditional(headers))
            _remember(self._ready, headers, ready)
        return ready

    async def _exchange(self, request: httpx.Request, exchange: Exchange) -> None:
        began = time.monotonic()
        response = await self._transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            exchange.first_byte = time.monotonic() - began
            exchange.headers = response_fields(response)
            exchange.status = response.status_code
            if exchange.status in REDIRECTS and self._redirects_to(exchange) is not None:
                await _drain(stream)
            else:
                exchange.body = await self._read(request.method, exchange, stream)
        finally:
            if not isinstance(stream, WholeBody):  # of which nothing is left to close
                await stream.aclose()

    async def _read(self, method: str, exchange: Exchange, stream: httpx.AsyncByteStream) -> bytes | SpilledBody:
        """Return the decoded body. Read as on the wire: ``Response.aiter_raw`` costs more and gives the same."""
        limit = self._config.max_body
        coding = exchange.header("content-encoding") and ", ".join(exchange.values("content-encoding"))
        if not coding:
            if isinstance(stream, WholeBody) and stream.failure is None:
                if len(stream.data) > limit:
                    raise too_large(limit)
                return stream.data
            if method != "HEAD" and exchange.status not in (204, 304):
                refuse_declared_length(exchange.header("content-length") or "", limit)
        decoder = BodyDecoder(coding or "", limit)
        pieces: list[bytes] = []
        size, room = 0, self._spilling.threshold
        spilled: SpilledBody | None = None
        try:
            async for chunk in stream:
                for piece in decoder.feed(chunk):
                    pieces.append(piece)
                    size += len(piece)
                    if size > room:
                        spilled = await self._spilling.add(spilled, pieces)
                        room = size + PIECE
            decoder.finish()
            if spilled is not None:
                return await self._spilling.add(spilled, pieces)
        except BaseException:
            self._spilling.discard(spilled)
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Ready:
    """Headers ready to be sent; ``raw`` is None where a value must be looked up each time."""

    raw: RawHeaders | None
    conditional: bool


def _raw_headers(headers: Headers) -> RawHeaders:
    try:
        # As bytes: httpx takes text for ASCII, and obs-text (RFC 9110, section 5.5) is allowed.
        return tuple((name.encode(), resolve_header(name, value).encode("latin-1")) for name, value in headers)
    except ConfigError as exc:
        raise FetchError(str(exc), kind=ErrorKind.INTERNAL) from None


def _remember(known: dict[Headers, _T], headers: Headers, value: _T) -> None:
    if sum([len(name) + len(text) for name, text in headers]) > _KNOWN_HEADERS_CHARS:
        return
    if len(known) >= _KNOWN_HEADERS:  # a list in which each target has its own
        known.clear()
    known[headers] = value


async def _drain(stream: httpx.AsyncByteStream) -> None:
    read = 0
    async for chunk in stream:
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
