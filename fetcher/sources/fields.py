"""What a record says about a request, checked: shared by the formats that carry more than a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fetcher.conf import fetcher_settings
from fetcher.engine.config import ConfigError, check_header, check_header_size, permitted_value
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.references import HeaderValue, RequestHeaders
from fetcher.engine.types import Target
from fetcher.engine.urls import parse_url
from fetcher.sources.entry import Entry, rejection, trimmed

NAMES = ("url", "method", "headers", "body", "label", "retry")
MAX_RECORD = 2**20
"""Bytes of one record as it is written, its body included."""
MAX_LABEL = 200

_KNOWN = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
WITHOUT_BODY = frozenset({"HEAD", "TRACE"})
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]{1,32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class FieldError(ValueError):
    """A field cannot be used; the text begins with its name and says what would be right."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A record as it was read, its types right and its values not looked at yet."""

    url: str
    method: str | None = None
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None
    body: str | None = None
    label: str | None = None
    retry: bool | None = None


def entry_for_fields(source: str, line: int, fields: Fields) -> Entry:
    """Return the entry for one record: its target, or its rejection, which shows nothing of it but the URL."""
    try:
        return Entry(source, line, target_for(fields), own_method=bool(fields.method))
    except InvalidUrl as exc:
        reason = str(exc)
    except FieldError as exc:
        reason = str(exc)
    return rejection(source, line, fields.url, reason)


def target_for(fields: Fields) -> Target:
    """Return the target. Raises InvalidUrl and FieldError."""
    if not (text := trimmed(fields.url)):
        raise FieldError("url: is empty")
    url = parse_url(text)
    method = read_method(fields.method) if fields.method else "GET"
    if fields.body is not None and method in WITHOUT_BODY:
        raise FieldError(f"body: a {method} request has none; leave it out, or use another method")
    return Target(
        url.href,
        url.host,
        method,
        _headers(fields.headers) if fields.headers else (),
        fields.body.encode() if fields.body is not None else None,
        _label(fields.label) if fields.label else None,
        bool(fields.retry),
    )


def check_result_method(method: str) -> None:
    """Raise FieldError for a method whose request cannot be made of a result: results have no request bodies."""
    if method not in ("GET", "HEAD"):
        raise FieldError(f"method: a result does not hold the body of its {method}; --retry-failed fetches with it")


def read_method(text: str) -> str:
    """Return the method to send. Raises FieldError.

    Methods are case-sensitive (RFC 9110, section 9.1): ``get`` is a slip and becomes ``GET``, an unknown name in lower
    case could be meant or be one and is refused. GET and DELETE may have a body, which some APIs ask for although
    section 9.3.1 gives it no meaning; HEAD and TRACE may not. CONNECT asks for a tunnel, which is no answer to save.
    """
    method = text.upper() if text.upper() in _KNOWN else text
    if method.upper() == "CONNECT":
        raise FieldError("method: CONNECT asks a proxy for a tunnel and cannot be fetched")
    if not _METHOD.fullmatch(method):
        raise FieldError(
            f"method: {text[:40]!a} is no method; write GET, POST, … or another name in capitals, without spaces"
        )
    return method


def _headers(headers: Mapping[str, str] | Sequence[tuple[str, str]]) -> RequestHeaders:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found = tuple((name, value.strip(" \t")) for name, value in pairs)
    try:
        check_header_size("headers", found)
        return tuple((name, _value(name, value)) for name, value in found)
    except ConfigError as exc:
        raise FieldError(f"headers: {exc}") from None


def _value(name: str, text: str) -> HeaderValue:
    check_header(name, text)
    return permitted_value(name, text, fetcher_settings().list_environment)


def _label(text: str) -> str:
    if len(text) > MAX_LABEL:
        raise FieldError(f"label: is longer than {MAX_LABEL} characters")
    if _CONTROL.search(text):
        raise FieldError("label: has a line break or another control character")
    return text
