"""Which transport is used, and why."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import httpx

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.descriptors import affordable
from fetcher.engine.transport.options import ConnectionOptions
from fetcher.engine.transport.resolver import Resolver

_HTTPX = f"httpx (httpcore {version('httpcore')})"
_HTTPX_NAMES = ("httpx", "h11", "httpcore")
LEAST = (7, 87, 0)
"""The oldest libcurl that will do: the first that reads the authorities' file once, not for each connection."""
_INSTALL = "install pycurl's wheel (pip install --only-binary :all: pycurl)"


@dataclass(frozen=True, slots=True)
class Choice:
    """``name`` is ``libcurl`` or ``httpx``; ``reason`` says why, for people, who are shown ``shown``."""

    name: str
    shown: str
    reason: str
    is_fallback: bool = False


def choose_transport(options: ConnectionOptions | None = None) -> Choice:
    """Return what would be used. Raises ConfigError where it cannot be, or knows less than the options ask for."""
    options = options or ConnectionOptions()
    if options.transport in _HTTPX_NAMES:
        _refuse_what_httpx_lacks(options, "is what FETCHER_TRANSPORT asks for")
        return Choice("httpx", _HTTPX, f"FETCHER_TRANSPORT is {options.transport}")
    problem, found = _libcurl()
    if not problem:
        by_itself = "it is the fastest, and FETCHER_TRANSPORT leaves the choice (auto)"
        return Choice("libcurl", found, by_itself if options.transport == "auto" else "FETCHER_TRANSPORT is libcurl")
    if options.transport == "libcurl":
        raise ConfigError("transport", f"is libcurl, but {problem}")
    _refuse_what_httpx_lacks(options, f"takes its place since {problem}")
    return Choice("httpx", _HTTPX, problem, is_fallback=True)


_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"
_LACKING = {
    _CERTIFICATE: "it holds no certificate in PEM",
    _KEY: "it holds no private key in PEM; FETCHER_CLIENT_KEY names the file that does",
}


def open_transport(config: FetchConfig, options: ConnectionOptions | None = None) -> httpx.AsyncBaseTransport:
    """Return a transport for ``config``. To be called, used and closed inside one event loop. Raises ConfigError."""
    options = options or ConnectionOptions()
    chosen = choose_transport(options)
    check_files(options)
    policy, resolver = AddressPolicy(config.allowed_networks), Resolver()
    timeouts = {"connect": config.connect_timeout, "read": config.read_timeout, "write": config.read_timeout}
    if chosen.name == "libcurl":
        from fetcher.engine.transport.libcurl import LibcurlTransport  # where there is no pycurl it cannot be imported

        _, kept = affordable(config.concurrency)
        return LibcurlTransport(policy, resolver, timeouts, connections=kept, options=options)
    from fetcher.engine.transport.dialler import Dialler  # httpcore takes a while to import
    from fetcher.engine.transport.http import HttpTransport

    context = _context(options.ca_file, options.client_cert, options.client_key)
    return HttpTransport(Dialler(policy, resolver, context), timeouts, connections=config.concurrency)


def check_files(options: ConnectionOptions) -> None:
    """Refuse certificate files that cannot be used. Raises ConfigError, which names the option and the file."""
    certificate, key = options.client_cert, options.client_key
    _read("ca_file", options.ca_file, b"", lambda: ssl.create_default_context(cafile=options.ca_file))
    _read("client_cert", certificate, _CERTIFICATE, lambda: None)
    _read("client_key" if key else "client_cert", key or certificate, _KEY,
          lambda: _context(options.ca_file, certificate, key))  # fmt: skip


def _read(name: str, path: str, mark: bytes, load: Callable[[], object]) -> None:
    """See whether a PEM file has what it is for, by its ``mark``, and can be loaded. Raises ConfigError."""
    if not path:
        return
    reason = ""
    try:
        content = Path(path).read_bytes()
        if mark not in content:
            reason = _LACKING[mark]
        elif mark == _KEY and b"ENCRYPTED" in content:  # OpenSSL would ask for the password
            reason = "its private key is encrypted, and nobody is there to be asked for the password"
        else:
            load()
    except ssl.SSLError as exc:
        mismatch = exc.reason == "KEY_VALUES_MISMATCH"
        reason = "it is not the key of that certificate" if mismatch else "it holds no usable PEM data"
    except OSError as exc:
        reason = str(exc.strerror)
    if reason:
        raise ConfigError(name, f"{path} cannot be used: {reason}")


def _refuse_what_httpx_lacks(options: ConnectionOptions, why: str) -> None:
    if name := options.needs_libcurl:
        raise ConfigError(name, f"needs libcurl, and httpx {why}")


@cache
def _libcurl() -> tuple[str, str]:
    """Return what keeps libcurl from being used, and what was found."""
    try:
        import pycurl
    except ImportError as exc:
        return f"pycurl cannot be imported ({exc}): pip install pycurl", ""
    found = pycurl.version_info()
    return problem_of(found[1], found[5]), f"libcurl {found[1]}"


def problem_of(version: str, tls: str | None) -> str:
    """Return why a libcurl of this version, with this TLS library, will not do; nothing where it will."""
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if parts < LEAST:
        return f"libcurl {version} is older than {'.'.join(map(str, LEAST))}: {_INSTALL}"
    return "" if tls else f"libcurl {version} knows no TLS: {_INSTALL}"


# Reading the bundle takes some 50 ms, too long for a transport that a web view opens for a few requests. The context
# keeps nothing of a connection.
@cache
def _context(ca_file: str, client_cert: str, client_key: str) -> ssl.SSLContext:
    from fetcher.engine.transport.http import verifying_context

    context = verifying_context(ca_file or None)
    if client_cert:
        context.load_cert_chain(client_cert, client_key or None)
    return context
