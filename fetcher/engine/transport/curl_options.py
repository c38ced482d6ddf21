"""What libcurl is told: once for a handle, and for each request."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import certifi
import httpx
import msgspec
import pycurl

from fetcher.engine.transport.options import ConnectionOptions

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, section 9.2.1
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_SMALL_ESCAPE = re.compile(r"%(?:[a-f][0-9A-Fa-f]|[0-9A-F][a-f])")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""What libcurl writes itself, by the URL and the body that it sends."""
_SILENT = (b"Accept", b"User-Agent", b"Expect", b"Content-Type")
"""What libcurl would add by itself."""
_SUPPRESS_CONNECT_HEADERS = 265  # pycurl does not name it (curl.h: CURLOPTTYPE_LONG + 265)
_READ_BYTES = 16 * 2**10
"""One read of libcurl's. It makes up to ten in one call, and parsing 1 MiB of a chunk's extension takes it 10 ms."""

Judge = Callable[[str, int], str | None]
"""From an address and a port to the reason why it must not be connected to."""
Kind = tuple[str, bool, bool, bool]
"""What a handle keeps: the method, whether it sends a body, a target of its own, and on new connections only."""
Options = list[tuple[int, Any]]
"""What is set once for a handle: libcurl's option and its value."""


class Order(msgspec.Struct, frozen=True, gc=False):
    """What to send. ``lines`` are header lines; ``resolve`` says where a name is, as libcurl writes that.

    ``target`` is the request line's where libcurl would change what the URL says.
    """

    url: str
    target: str | None
    host: str
    lines: list[bytes]
    body: bytes
    resolve: str | None
    connect_timeout: float | None
    read_timeout: float | None


def common_options(options: ConnectionOptions) -> Options:
    """Return what is the same for every request; whatever could come from the environment or by luck is set."""
    common: Options = [
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.NOSIGNAL, 1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.HTTP09_ALLOWED, 0),
        (pycurl.HTTP_CONTENT_DECODING, 0),
        (_SUPPRESS_CONNECT_HEADERS, 1),
        (pycurl.PROXY, options.proxy.replace("socks5://", "socks5h://", 1)),
        (pycurl.NOPROXY, ""),
        (pycurl.NETRC, pycurl.NETRC_IGNORED),
        (pycurl.CAINFO, options.ca_file or certifi.where()),
        (pycurl.PROXY_CAINFO, options.ca_file or certifi.where()),
        (pycurl.SSL_VERIFYPEER, 1),
        (pycurl.SSL_VERIFYHOST, 2),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS if options.http2 else pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PIPEWAIT, 1 if options.http2 else 0),
        (pycurl.MAXAGE_CONN, 30),
        (pycurl.BUFFERSIZE, _READ_BYTES),
    ]
    if options.client_cert:
        common.append((pycurl.SSLCERT, options.client_cert))
        common.append((pycurl.SSLKEY, options.client_key or options.client_cert))
    return common


def method_options(kind: Kind) -> Options:
    """Return what makes a handle send requests of a kind."""
    method, body, _, fresh = kind
    options: Options = [(pycurl.FRESH_CONNECT, 1)] if fresh else []
    if body:
        # A body that was begun cannot be read again, so libcurl fails where it would silently send it twice.
        options += [(pycurl.UPLOAD, 1), (pycurl.CUSTOMREQUEST, method)]
        if method not in SAFE:  # no server closes sooner, but for those that close at once
            options.append((pycurl.MAXAGE_CONN, 1))
    elif method == "HEAD":
        options.append((pycurl.NOBODY, 1))
    else:
        options.append((pycurl.HTTPGET, 1))
        if method != "GET":
            options.append((pycurl.CUSTOMREQUEST, method))
    return options


def header_lines(headers: Iterable[tuple[bytes, bytes]], netloc: bytes) -> list[bytes]:
    """Return header lines for libcurl. Raises httpx.LocalProtocolError for what would be sent as something else."""
    lines = []
    given = set()
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            shown = name.decode("latin-1")
            raise httpx.LocalProtocolError(
                f"the request cannot be sent: the header {shown!r} or its value is no header"
            )
        low = name.lower()
        if low in _OURS and not (low == b"host" and value != netloc):
            continue
        given.add(low)
        lines.append(name + b": " + value if value else name + b";")
    lines += [name + b":" for name in _SILENT if name.lower() not in given]
    return lines


def exact_target(url: str, *, absolute: bool) -> str | None:
    """Return the target of a URL's request line where libcurl would write it otherwise, None where it would not.

    libcurl writes the hexadecimal digits of escapes in capitals. Signatures are over what was given: ``/a%2fb``.
    ``absolute`` says that the whole URL goes to a proxy (RFC 9112, section 3.2.2).
    """
    if _SMALL_ESCAPE.search(url) is None:
        return None
    return url if absolute else url[url.index("/", len("https://")) :]


def split_url(url: httpx.URL) -> tuple[str, str, int]:
    """Return a URL as it is given to libcurl, its host and its port. Raises httpx.UnsupportedProtocol."""
    if url.scheme not in _PORTS or not url.host:
        raise httpx.UnsupportedProtocol(f"not an http or https URL: {url.scheme}://")
    host = url.raw_host.decode("ascii")
    # Without user and password: they would be sent.
    shown = f"[{host}]" if ":" in host else host
    port = url.port or _PORTS[url.scheme]
    place = shown if url.port is None else f"{shown}:{port}"
    return f"{url.scheme}://{place}{url.raw_path.decode('ascii')}", host, port


async def read_body(request: httpx.Request) -> bytes:
    """Return a request's whole body. Raises httpx.LocalProtocolError."""
    with contextlib.suppress(httpx.RequestNotRead):
        return request.content
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the body of the request cannot be sent: it is no async stream")
    return b"".join([chunk async for chunk in request.stream])


def is_method(text: str) -> bool:
    """Whether a text can be a request's method (RFC 9110, section 9.1)."""
    return _METHOD.fullmatch(text) is not None
