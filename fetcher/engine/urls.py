"""URLs are parsed once, by the WHATWG URL standard, and handed on normalised.

What the standard mends silently (tabs, backslashes, a missing slash, an encoded host) is refused here: in a list of
URLs it is a mistake, or somebody's attempt to have two parsers disagree about the host.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import ada_url
import msgspec

from fetcher.engine.errors import InvalidUrl
from fetcher.engine.references import HeaderValue, RequestHeaders

MAX_LENGTH = 8000
"""Octets; what RFC 9110, section 4.1 asks everybody to support."""

_HOST_FIRST = re.compile(r"(?:[\w-]+\.)+[A-Za-z]{2,}(?:[:/?#]|$)|localhost\b|\d+(?:\.\d+){3}\b")
_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)([^/?#\\]*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_DNS_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# What most lists consist of and normalising leaves alone: a name in small letters whose last label is no number or an
# IPv4 address, a port that no scheme has by default, path segments that begin with no dot, and only characters that are
# never encoded.
_PLAIN = re.compile(
    r"(https?)://"
    rf"((?:(?!xn--)[a-z0-9_-]{{1,63}}\.)*+(?!xn--)[a-z][a-z0-9_-]{{0,62}}|(?:{_OCTET}\.){{3}}{_OCTET})"
    r"(?::((?!(?:80|443)(?![0-9]))(?:[1-5][0-9]{4}|6[0-4][0-9]{3}|[1-9][0-9]{0,3})))?+"
    r"((?:/(?!\.|%2[eE])[A-Za-z0-9_.~!$&()*+,;=:@%-]*+)*+)"
    r"((?:\?[A-Za-z0-9_.~!$&()*+,;=:@%/?-]*+)?)"
)
# Of a normalised URL the parts that are wanted stand where they are.
_KNOWN = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?/")


class Url(msgspec.Struct, frozen=True, gc=False):
    """A normalised http(s) URL without fragment. ``hostname`` has no brackets; ``port`` is always a number."""

    href: str
    scheme: str
    hostname: str
    port: int

    @property
    def host(self) -> str:
        """The politeness key: name and port, so http and https of one server on their default ports differ."""
        name = self.hostname.rstrip(".")
        return f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host name and port (RFC 6454): what decides whether credentials go along."""
        return self.scheme, self.hostname, self.port


def parse_url(text: str) -> Url:
    """Parse one URL as people write it in a list.

    Raises InvalidUrl with a reason that says what to write instead.
    """
    if (plain := _PLAIN.fullmatch(text)) and len(text) < MAX_LENGTH and plain.end(2) - plain.start(2) <= 253:
        scheme, hostname, port, path, query = plain.groups()
        href = text if path else f"{text.removesuffix(query)}/{query}"
        return Url(href, scheme, hostname, int(port) if port else _DEFAULT_PORTS[scheme])
    return _parse_any(text)


def known_url(href: str) -> Url:
    """Take apart a URL that ``parse_url`` or ``join_url`` gave before: ``Url.href``, and nothing else."""
    found = _KNOWN.match(href)
    if found is None:
        return parse_url(href)
    scheme, v6, name, port = found.groups()
    return Url(href, scheme, v6 or name, int(port) if port else _DEFAULT_PORTS[scheme])


def _parse_any(text: str) -> Url:
    if len(text) > MAX_LENGTH:
        raise InvalidUrl(f"longer than {MAX_LENGTH} characters")
    if any(char.isspace() for char in text):
        raise InvalidUrl("contains white space; write %20 where a space is meant")
    _refuse_disguises(text)
    try:
        parsed = ada_url.URL(text)
    except ValueError:
        raise InvalidUrl(_why(text)) from None
    return _checked(parsed)


def join_url(base: str, location: str) -> Url:
    """Resolve a redirect's Location against the URL that sent it (RFC 9110, section 10.2.2).

    Raises InvalidUrl.
    """
    location = location.strip(" \t")
    if len(location) > MAX_LENGTH:
        raise InvalidUrl(f"redirect to a URL longer than {MAX_LENGTH} characters")
    _refuse_controls(location)
    try:
        parsed = ada_url.URL(location, base)
    except ValueError:
        shown = "" if "@" in location else f": {location[:200]!r}"  # a password is not shown
        raise InvalidUrl(f"redirect to what is no URL{shown}") from None
    return _checked(parsed)


def _refuse_controls(text: str) -> None:
    if match := _CONTROL.search(text):
        raise InvalidUrl(f"contains the control character {match[0]!a}")


def _refuse_disguises(text: str) -> None:
    _refuse_controls(text)
    shape = _SHAPE.match(text)
    if shape is None:
        raise InvalidUrl(_why(text))
    scheme, slashes, authority = shape.groups()
    if scheme.lower() not in _DEFAULT_PORTS:
        if not slashes and re.match(r"\d+(?:[/?#]|$)", text[len(scheme) + 1 :]):  # host:port read as a scheme
            raise InvalidUrl(_why(text))
        raise InvalidUrl(f"the scheme {scheme!r} is not supported; only http and https are")
    if slashes != "//":
        raise InvalidUrl(f"needs exactly two slashes after {scheme}:")
    if "\\" in text.partition("?")[0].partition("#")[0]:
        raise InvalidUrl("contains a backslash; write / or %5C")
    if "@" in authority:
        raise InvalidUrl("contains a user name or password; send them in an Authorization header instead")
    if "%" in authority:
        raise InvalidUrl("has a percent-encoded host; write the name itself")


def has_no_scheme(text: str) -> bool:
    """Whether a text begins with a host, as a URL without its scheme does."""
    return "@" not in text and _HOST_FIRST.match(text) is not None


def _why(text: str) -> str:
    if "@" in text:  # what is repeated here may be a password
        return "is not a valid URL; where it has a user name or password, send them in an Authorization header instead"
    if has_no_scheme(text):
        return f"has no scheme; write https://{text[:100]}"
    return "is not a URL" if "://" not in text else "is not a valid URL: its host or port cannot be read"


def _checked(parsed: ada_url.URL) -> Url:
    scheme = parsed.protocol[:-1]
    if scheme not in _DEFAULT_PORTS:
        raise InvalidUrl(f"the scheme {scheme!r} is not supported; only http and https are")
    if len(parsed.href) > MAX_LENGTH:
        raise InvalidUrl(f"longer than {MAX_LENGTH} characters when encoded")
    if parsed.username or parsed.password:
        raise InvalidUrl("contains a user name or password; send them in an Authorization header instead")
    hostname = parsed.hostname
    if hostname.startswith("["):
        hostname = hostname[1:-1]
    elif not _DNS_NAME.fullmatch(hostname) or len(hostname) > 253:
        raise InvalidUrl(f"has a host that no name server can know: {hostname[:100]!r}")
    port = int(parsed.port) if parsed.port else _DEFAULT_PORTS[scheme]
    if port == 0:
        raise InvalidUrl("has the port 0, which cannot be connected to")
    return Url(parsed.href.partition("#")[0], scheme, hostname, port)


def fingerprint(
    method: str,
    url: str,
    headers: RequestHeaders = (),
    body: bytes | None = None,
    *,
    is_secret: Callable[[str], bool] = lambda name: False,
    key: bytes = b"",
) -> bytes:
    """Identify a target: 16 bytes of BLAKE2b over method, URL, own headers and body.

    Values of headers whose names are secret enter keyed with ``key`` (at most 64 bytes), so that the stored fingerprint
    is no oracle for them. A reference is no text: its name's part has a colon, which no
    header's name can have.
    """
    digest = hashlib.blake2b(digest_size=16)
    parts = [method.encode(), url.encode()]
    for name, value in sorted(((name.lower(), value) for name, value in headers), key=_order):
        if isinstance(value, str):
            raw = value.encode()
            keyed = is_secret(name)
            parts += [name.encode(), hashlib.blake2b(raw, key=key, digest_size=16).digest() if keyed else raw]
        else:
            parts += [f"{name}:reference".encode(), str(value).encode()]
    if body is not None:
        parts.append(b"body:" + body)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _order(pair: tuple[str, HeaderValue]) -> tuple[str, bool, str]:
    name, value = pair
    return name, not isinstance(value, str), str(value)
