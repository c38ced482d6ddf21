"""How connections are made: what belongs to a machine and its network, not to a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from fetcher.engine.config import ConfigError

Choice = Literal["auto", "libcurl", "httpx", "h11", "httpcore"]
"""``auto`` is libcurl where it can be used, otherwise httpx; ``h11`` and ``httpcore`` are older names for httpx."""
PROXY_SCHEMES = ("http", "https", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Which transport, and how it connects. Raises ConfigError for what cannot be used.

    Examples with their effects::

        ConnectionOptions()                               directly, HTTP/1.1, certifi's authorities
        ConnectionOptions(proxy="socks5h://gate:1080")    everything through a proxy, which looks names up
        ConnectionOptions(http2=True)                     HTTP/2 where an https server offers it
    """

    transport: Choice = "auto"
    """Which library sends requests."""
    http2: bool = False
    """Whether HTTP/2 is used where a server offers it over TLS (libcurl only)."""
    proxy: str = field(default="", repr=False)
    """The proxy's URL, which may hold user and password (libcurl only). Nothing is taken from the environment."""
    ca_file: str = ""
    """The PEM file of the authorities that are trusted; empty: certifi's."""
    client_cert: str = ""
    """The PEM file of the certificate that is shown to servers that ask for one, its chain included."""
    client_key: str = ""
    """The PEM file of its private key; empty: it is in the same file."""

    def __post_init__(self) -> None:
        if self.transport not in get_args(Choice):
            raise ConfigError("transport", f"must be one of {', '.join(get_args(Choice))}, not {self.transport!r}")
        if not isinstance(self.http2, bool):
            raise ConfigError("http2", f"must be true or false, not {self.http2!r}")
        if self.client_key and not self.client_cert:
            raise ConfigError("client_key", "is the key of a certificate; name that with FETCHER_CLIENT_CERT")
        if self.proxy:
            _check_proxy(self.proxy)

    @property
    def needs_libcurl(self) -> str:
        """The name of the first option that only libcurl knows, or nothing."""
        return next((name for name in ("proxy", "http2") if getattr(self, name)), "")


def proxy_place(proxy: str) -> tuple[str, int]:
    """Return a proxy's host and port."""
    parts = urlsplit(proxy)
    default = {"http": 80, "https": 443}.get(parts.scheme, 1080)
    return parts.hostname or "", parts.port or default


def _check_proxy(proxy: str) -> None:
    # The value is not repeated: it may hold a password.
    try:
        parts = urlsplit(proxy)
        known = parts.scheme in PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.path not in ("", "/") or parts.query or re.search(r"[\x00-\x20\x7f]", proxy):
        raise ConfigError(
            "proxy",
            f"must look like http://host:3128 or socks5h://user:password@host:1080 ({', '.join(PROXY_SCHEMES)})",
        )
