"""One hop: an ``httpx.Request`` to the transport, the answer's body read within bounds; and where a redirect leads.

The request goes straight to the transport. ``httpx.AsyncClient`` would add cookies, environment proxies and its own
redirects, none of which are wanted here, and costs more than the request itself.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import msgspec

from fetcher.engine.bodies import SpilledBody, Spilling
from fetcher.engine.body_reader import BodyReader
from fetcher.engine.config import FetchConfig
from fetcher.engine.cookies import Cookie, collect_cookies, with_cookies
from fetcher.engine.deadlines import Deadlines
from fetcher.engine.decoding import ACCEPT_ENCODING, read_codings, too_large
from fetcher.engine.errors import ErrorKind, FetchError, InvalidUrl, TooManyRedirects, fetch_error
from fetcher.engine.references import RequestHeaders
from fetcher.engine.request_headers import (
    conditional_headers,
    effective_headers,
    encode_headers,
    is_conditional,
    raw_headers,
)
from fetcher.engine.transport import WIRE, PreparedRequest, Wire
from fetcher.engine.transport.messages import RawHeaders, WholeBody, response_fields
from fetcher.engine.types import Headers, Target, Validators
from fetcher.engine.urls import Url, join_url, known_url

_T = TypeVar("_T")

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_VALIDATED = frozenset({"GET", "HEAD"})
"""With other methods If-None-Match means something else: do not act on what exists (RFC 9110, section 13.1.2)."""
_CONTENT_HEADERS = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
_NOT_ASCII = re.compile("[\x80-\xff]")
_DRAINED = 64 * 2**10
"""Bytes of a redirect's body that are read to keep the connection; a longer one is cut off."""
_DRAINING_SECONDS = 1.0
"""How long they are waited for: a new connection costs less."""
_KNOWN_HEADERS = 1024
"""Sets of headers that are kept ready to be sent."""
_KNOWN_HEADERS_CHARS = 4096
"""A longer set is prepared each time: a list, or a server that sets cookies, could fill the memory with them."""


class Hop(msgspec.Struct, frozen=True, gc=False):
    """One request of an attempt. Header values are as configured: references are looked up when it is sent."""

    url: Url
    method: str
    headers: RequestHeaders
    body: bytes | None = None
    validators: Validators | None = None
    number: int = 0
    cookies: tuple[Cookie, ...] = ()
    """What the redirects before this hop have set."""


@dataclass(slots=True)
class Exchange:
    """What is known of one hop, filled in as far as it came.

    ``first_byte`` is seconds from the hop's start; ``remark`` says what is odd about the body, where something is.
    """

    wire: Wire = field(default_factory=Wire)
    conditional: bool = False
    status: int | None = None
    headers: Headers = ()
    body: bytes | SpilledBody | None = None
    first_byte: float | None = None
    remark: str = ""

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
        self._bodies = BodyReader(config.max_body, spilling)
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
        self._effective: dict[RequestHeaders, RequestHeaders] = {}
        self._ready: dict[RequestHeaders, _Ready] = {}

    def first_hop(self, target: Target) -> Hop:
        """Return the request that a target asks for. Raises InvalidUrl."""
        own, url, config = target.headers, known_url(target.url), self._config
        headers = self._effective.get(own) if not config.guarded_headers else None
        if headers is None:
            headers = effective_headers(self._defaults, config.headers_for(url), own)
            _remember(self._effective, own, headers)
        return Hop(url, target.method, headers, target.body, target.validators)

    def next_hop(self, hop: Hop, exchange: Exchange) -> Hop | None:
        """Return the request that a redirect asks for, or None where the answer is the last.

        Methods change as in RFC 9110, section 15.4; secrets are dropped when the origin changes. Raises InvalidUrl,
        TooManyRedirects.
        """
        location = self._redirects_to(exchange)
        if location is None:
            return None
        if hop.number >= self._config.max_redirects:
            raise TooManyRedirects(self._too_many(hop, location), answered=True)
        url = join_url(hop.url.href, location)
        cookies = hop.cookies
        if set_cookie := exchange.values("set-cookie"):
            cookies = collect_cookies(cookies, hop.url, set_cookie, time.time())
        method, headers, body = hop.method, hop.headers, hop.body
        if (exchange.status == 303 and method != "HEAD") or (exchange.status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = tuple(pair for pair in headers if pair[0].lower() not in _CONTENT_HEADERS)
        if url.origin != hop.url.origin:
            headers = tuple(pair for pair in headers if not self._config.stays_at_its_origin(*pair))
        return Hop(url, method, headers, body, hop.validators, hop.number + 1, cookies)

    def _too_many(self, hop: Hop, location: str) -> str:
        text = f"more than {self._config.max_redirects} redirects (--max-redirects)"
        with contextlib.suppress(InvalidUrl):
            if join_url(hop.url.href, location).href == hop.url.href:
                text += (
                    ": the URL redirects to itself; the server probably expects a login, or a header or a cookie of "
                    "another host, which --header can send"
                )
        return text

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

        The body of a redirect that will be followed is not kept. Raises FetchError for whatever goes wrong, except in
        the body of an answer that counts without it: then ``exchange.remark`` says what.
        """
        request = self._request(hop, exchange)
        try:
            with self._deadlines.limit(budget) as limit:
                await self._exchange(request, exchange)
        except FetchError as exc:
            exc.answered = exchange.status is not None
            if not self._counts_without_body(exchange):
                raise
            exchange.remark = _not_kept(exc)
        except (TimeoutError, httpx.TransportError, httpx.InvalidURL) as exc:
            expired = f"{budget:.3g} s" if limit.expired else ""
            if not self._counts_without_body(exchange):
                raise self._failure(exc, exchange, expired) from exc
            exchange.remark = _not_kept(self._failure(exc, exchange, expired))

    def _failure(self, exc: Exception, exchange: Exchange, expired: str) -> FetchError:
        """Return what went wrong as a FetchError; ``expired`` is the attempt's time limit, if that was exceeded."""
        answered = exchange.status is not None
        if isinstance(exc, httpx.TransportError | httpx.InvalidURL):
            connect, read = self._config.connect_timeout, self._config.read_timeout
            return fetch_error(exc, connect=connect, read=read, answered=answered)
        text = "the answer was not complete" if answered else "no answer"
        if expired:
            text += f" when the time for the attempt was up, {expired} (--deadline, --total-deadline)"
        return FetchError(text, kind=ErrorKind.TIMEOUT, retryable=True, answered=answered)

    def _counts_without_body(self, exchange: Exchange) -> bool:
        """Whether the status says all: a failure, a redirect that is followed, or 304, which has no body."""
        status = exchange.status
        return status is not None and (status >= 400 or status == 304 or self._redirects_to(exchange) is not None)

    def _request(self, hop: Hop, exchange: Exchange) -> httpx.Request:
        ready = self._prepared(hop.headers)
        if hop.validators is not None and not ready.conditional:
            fits = hop.validators.url == hop.url.href and hop.method in _VALIDATED
            if fits and (conditions := conditional_headers(hop.validators)):
                raw = ready.raw or raw_headers(hop.headers)
                ready = _Ready((*raw, *encode_headers(conditions)), conditional=True)
        exchange.conditional = ready.conditional
        raw = ready.raw if ready.raw is not None else raw_headers(hop.headers)
        if hop.cookies:
            raw = with_cookies(raw, hop.cookies, hop.url, time.time())
        return PreparedRequest(hop.method, hop.url, raw, hop.body, {"timeout": self._timeouts, WIRE: exchange.wire})

    def _prepared(self, headers: RequestHeaders) -> _Ready:
        """Return headers as they are sent; most requests have the same ones."""
        ready = self._ready.get(headers)
        if ready is None:
            fixed = all(isinstance(value, str) for _, value in headers)
            ready = _Ready(raw_headers(headers) if fixed else None, is_conditional(headers))
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
                await self._drain(stream)
            else:
                exchange.body = await self._read(request.method, exchange, stream)
        finally:
            if not isinstance(stream, WholeBody):  # of which nothing is left to close
                await stream.aclose()

    async def _read(self, method: str, exchange: Exchange, stream: httpx.AsyncByteStream) -> bytes | SpilledBody:
        """Return the decoded body."""
        coded = exchange.header("content-encoding")
        if not coded and isinstance(stream, WholeBody) and stream.failure is None:
            if len(stream.data) > self._config.max_body:
                raise too_large(self._config.max_body)
            return stream.data
        if method == "HEAD" or exchange.status in (204, 304):
            return await self._bodies.read(stream, "")  # its headers describe a body that it does not have
        codings, remark = read_codings(exchange.values("content-encoding")) if coded else ([], "")
        if codings:
            body = await self._bodies.read_decoded(stream, codings)
        else:
            body = await self._bodies.read(stream, exchange.header("content-length") or "")
        if remark and len(body):
            exchange.remark = remark
        return body

    async def _drain(self, stream: httpx.AsyncByteStream) -> None:
        """Read a short body, to keep the connection."""
        if isinstance(stream, WholeBody):
            return
        read = 0
        with contextlib.suppress(TimeoutError, httpx.TransportError), self._deadlines.limit(_DRAINING_SECONDS):
            async for chunk in stream:
                read += len(chunk)
                if read > _DRAINED:
                    break


@dataclass(frozen=True, slots=True)
class _Ready:
    """Headers ready to be sent; ``raw`` is None where a value must be looked up each time."""

    raw: RawHeaders | None
    conditional: bool


def _not_kept(error: FetchError) -> str:
    return f"its body is not kept: {error.detail}"


def _remember(known: dict[RequestHeaders, _T], headers: RequestHeaders, value: _T) -> None:
    if sum([len(name) + len(text) for name, text in headers if isinstance(text, str)]) > _KNOWN_HEADERS_CHARS:
        return
    if len(known) >= _KNOWN_HEADERS:  # a list in which each target has its own
        known.clear()
    known[headers] = value
