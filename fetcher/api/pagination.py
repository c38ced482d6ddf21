"""Pages by keyset: a cursor holds the last key that was shown, so that a page costs the same wherever it lies."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec
from django.http import HttpRequest
from django.utils.encoding import iri_to_uri

from fetcher.api.errors import bad_parameter
from fetcher.conf import fetcher_settings
from fetcher.payloads import Page

DEFAULT_LIMIT = 100
LARGEST_KEY = 2**63 - 1


class _Cursor(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    kind: str
    key: int


_decoder = msgspec.msgpack.Decoder(_Cursor)


def encode_cursor(kind: str, key: int) -> str:
    """Return the cursor after ``key`` in the list ``kind``. Readers must not look into it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(_Cursor(kind, key))).rstrip(b"=").decode()


def decode_cursor(kind: str, text: str) -> int:
    """Return the key of a cursor. Raises Problem (400) for one that was altered or comes from another list."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        cursor = _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise bad_parameter("cursor", "cannot be read; pass on what 'next' gave, unaltered") from None
    if cursor.kind != kind:
        raise bad_parameter("cursor", "belongs to another list; start this one without a cursor")
    if not 0 <= cursor.key <= LARGEST_KEY:
        raise bad_parameter("cursor", "cannot be read; pass on what 'next' gave, unaltered")
    return cursor.key


def read_limit(text: str) -> int:
    """Read a page size; more than FETCHER_PAGE_LIMIT is cut to it. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < 1:
        raise ValueError(f"must be a whole number of at least 1, not {text[:100]!r}")
    return min(int(text), fetcher_settings().page_limit)


def default_limit() -> int:
    """Return the page size where none was asked for."""
    return min(DEFAULT_LIMIT, fetcher_settings().page_limit)


def page_of(items: list[Any], limit: int, kind: str) -> Page:
    """Make a page from up to ``limit`` + 1 items with an ``id``; one too many means that more follow."""
    shown = items[:limit]
    return Page(shown, encode_cursor(kind, shown[-1].id) if len(items) > limit else None)


def link_headers(request: HttpRequest, page: Page) -> dict[str, str]:
    """Return the Link header (RFC 8288) to the page that follows, or nothing."""
    if page.next is None:
        return {}
    query = request.GET.copy()
    query["cursor"] = page.next
    return {"Link": f'<{iri_to_uri(request.path)}?{query.urlencode()}>; rel="next"'}
