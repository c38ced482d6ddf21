"""The cookies of one chain of redirects (RFC 6265), kept in memory until the chain ends.

Some sites answer a first request with a cookie and a redirect to the same URL, and repeat that until the cookie comes
back. Cookies serve that purpose only: they are never stored, and each target starts without any. A cookie is sent back
only to the host name that set it, whatever its Domain attribute says, so no list of public suffixes is needed.

``http.cookiejar`` is not used: it follows Netscape's rules, cannot keep cookies to one host, and prints a traceback for
some odd values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from fetcher.engine.transport.messages import RawHeaders
from fetcher.engine.urls import Url

MAX_COOKIES = 50
"""Cookies kept in one chain; a browser keeps at least as many for each domain (RFC 6265, section 6.1)."""
MAX_COOKIE_BYTES = 4096
"""Longest Set-Cookie value that is read (RFC 6265, section 6.1)."""
MAX_HEADER_BYTES = 8192
"""Longest Cookie value that is sent. Many servers refuse longer header lines."""
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_MAX_AGE = re.compile(r"-?[0-9]{1,18}")


class Cookie(msgspec.Struct, frozen=True, gc=False):
    """One cookie of the host ``hostname``. ``expires`` counts seconds from the epoch; None: when the chain ends."""

    name: str
    value: str
    hostname: str
    path: str
    secure: bool
    expires: float | None


def collect_cookies(cookies: tuple[Cookie, ...], url: Url, set_cookie: Iterable[str], now: float) -> tuple[Cookie, ...]:
    """Return the cookies after an answer from ``url``; ``set_cookie`` are its values of Set-Cookie.

    Ignores what RFC 6265, section 5.3 ignores, and what exceeds the bounds. ``now`` is in seconds since the epoch.
    """
    for text in set_cookie:
        cookie = _parse(text, url, now)
        if cookie is None:
            continue
        key = cookie.name, cookie.hostname, cookie.path
        cookies = tuple(one for one in cookies if (one.name, one.hostname, one.path) != key)
        if not _is_expired(cookie, now) and len(cookies) < MAX_COOKIES:
            cookies += (cookie,)
    return cookies


def with_cookies(headers: RawHeaders, cookies: Iterable[Cookie], url: Url, now: float) -> RawHeaders:
    """Return the headers of a request to ``url`` with the matching cookies added, in one Cookie header.

    The configured cookies come first, and replace collected ones of the same name. ``now`` is in seconds since the
    epoch.
    """
    configured = b"; ".join(value for name, value in headers if name.lower() == b"cookie").decode("latin-1")
    names = {pair.partition("=")[0].strip() for pair in configured.split(";")}
    header = configured
    # RFC 6265, section 5.4: longer paths first, then in the order of their creation.
    for cookie in sorted(cookies, key=lambda one: -len(one.path)):
        if cookie.name in names or not _matches(cookie, url) or _is_expired(cookie, now):
            continue
        longer = f"{header}; {cookie.name}={cookie.value}" if header else f"{cookie.name}={cookie.value}"
        if len(longer) <= MAX_HEADER_BYTES:
            header = longer
    if header == configured:
        return headers
    return (*(pair for pair in headers if pair[0].lower() != b"cookie"), (b"Cookie", header.encode("latin-1")))


def _parse(text: str, url: Url, now: float) -> Cookie | None:
    """Read one Set-Cookie value (RFC 6265, sections 5.2 and 5.3)."""
    if len(text) > MAX_COOKIE_BYTES or not _SENDABLE.fullmatch(text):
        return None
    pair, *rest = text.split(";")
    name, equals, value = (part.strip(" \t") for part in pair.partition("="))
    # The last of several attributes of one name counts.
    given = {key.strip(" \t").lower(): part.strip(" \t") for key, _, part in (one.partition("=") for one in rest)}
    secure = "secure" in given
    if not equals or not name or not _is_own_domain(given.get("domain", ""), url.hostname):
        return None
    if secure and url.scheme != "https":
        return None
    path = given.get("path", "")
    if not path.startswith("/"):
        path = _path(url).rpartition("/")[0] or "/"
    expires = _moment(given.get("expires", ""))
    if _MAX_AGE.fullmatch(age := given.get("max-age", "")):
        expires = now + int(age)
    return Cookie(name, value, url.hostname, path, secure, expires)


def _moment(date: str) -> float | None:
    """Return a date in seconds since the epoch, None if it cannot be read."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, OverflowError):
        return None


def _is_own_domain(domain: str, hostname: str) -> bool:
    """Whether the host may set a cookie for a domain (RFC 6265, section 5.1.3)."""
    domain = domain.removeprefix(".").lower()
    return not domain or hostname == domain or hostname.endswith(f".{domain}")


def _matches(cookie: Cookie, url: Url) -> bool:
    if cookie.hostname != url.hostname or (cookie.secure and url.scheme != "https"):
        return False
    path = _path(url)
    return path == cookie.path or path.startswith(cookie.path.removesuffix("/") + "/")


def _path(url: Url) -> str:
    path = url.href.split("/", 3)[3]
    return "/" + path.partition("?")[0]


def _is_expired(cookie: Cookie, now: float) -> bool:
    return cookie.expires is not None and cookie.expires <= now
