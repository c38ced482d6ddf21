"""The headers of a request: whose win, what makes it conditional, and how they are sent."""

from __future__ import annotations

from collections.abc import Iterable

from fetcher.engine.config import ConfigError, resolve_header
from fetcher.engine.errors import ErrorKind, FetchError
from fetcher.engine.references import HeaderValue, RequestHeaders
from fetcher.engine.transport.messages import RawHeaders
from fetcher.engine.types import Headers, Validators
from fetcher.engine.validators import usable_validator

CONDITIONAL_HEADERS = frozenset({"if-none-match", "if-modified-since"})


def is_conditional(headers: RequestHeaders) -> bool:
    """Whether one of the headers makes the request a conditional one."""
    return any(name.lower() in CONDITIONAL_HEADERS for name, _ in headers)


def conditional_headers(validators: Validators) -> Headers:
    """Return the headers of a conditional request (RFC 9110, sections 13.1.2 and 13.1.3).

    What a server gave is sent back as it is, or not at all: it is never looked at for anything that it could mean.
    """
    found = []
    if etag := usable_validator(validators.etag):
        found.append(("If-None-Match", etag))
    if last_modified := usable_validator(validators.last_modified):
        found.append(("If-Modified-Since", last_modified))
    return tuple(found)


def effective_headers(*layers: RequestHeaders) -> RequestHeaders:
    """Lay headers over one another: a later layer replaces all values of a name that it gives (in any case)."""
    result: list[tuple[str, HeaderValue]] = []
    for layer in layers:
        given = {name.lower() for name, _ in layer}
        result = [pair for pair in result if pair[0].lower() not in given] + list(layer)
    return tuple(result)


def raw_headers(headers: RequestHeaders) -> RawHeaders:
    """Return headers as they are sent; references are looked up now. Raises FetchError, ``internal``."""
    try:
        return encode_headers((name, resolve_header(name, value)) for name, value in headers)
    except ConfigError as exc:
        raise FetchError(str(exc), kind=ErrorKind.INTERNAL) from None


def encode_headers(headers: Iterable[tuple[str, str]]) -> RawHeaders:
    """Return headers of plain text as bytes."""
    # As bytes: httpx takes text for ASCII, and obs-text (RFC 9110, section 5.5) is allowed.
    return tuple((name.encode(), value.encode("latin-1")) for name, value in headers)
