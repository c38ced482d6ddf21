"""Hosts that an operator names by patterns.

Examples::

    api.example.com         https, at its usual port
    api.example.com:8443    that port only, by either scheme; with :80 plain HTTP, where anybody on the way can read
    *.example.com           every name below example.com, not example.com itself
    *                       every host
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import Url, parse_url

_BELOW = "*."
_HTTPS_PORT = 443


def check_pattern(text: str) -> None:
    """Raise ValueError for what is not a pattern, saying what would be right."""
    if text != "*":
        _parsed(text)


def is_named(url: Url, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names the host of a URL."""
    return any(pattern == "*" or _names(pattern, url) for pattern in patterns)


def _names(pattern: str, url: Url) -> bool:
    below, host = _parsed(pattern)
    if url.port != host.port or (url.port == _HTTPS_PORT and url.scheme != "https"):
        return False
    return url.hostname.endswith(f".{host.hostname}") if below else url.hostname == host.hostname


@functools.lru_cache(maxsize=256)
def _parsed(pattern: str) -> tuple[bool, Url]:
    below = pattern.startswith(_BELOW)
    name = pattern.removeprefix(_BELOW)
    try:
        url = parse_url(f"https://{name}/")
    except InvalidUrl:
        url = None
    if url is None or url.href.count("/") != 3 or set("/?#\\*") & set(name):
        raise ValueError(
            f"must be hosts such as api.example.com, api.example.com:8443 or *.example.com, not {pattern!r}"
        )
    return below, url
