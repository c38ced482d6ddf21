"""Why a fetch failed: one closed set of kinds, and the exceptions that carry them.

::

    FetchError                      kind, detail, retryable, answered
    ├── InvalidUrl                  invalid_url         (also a ValueError: bad input is reported with its reason)
    ├── TooLarge                    too_large
    ├── DecodingFailed              decoding
    ├── TooManyRedirects            too_many_redirects
    ├── OwnFault                    internal            (this machine's fault: the attempt does not count)
    └── (others are made by ``fetch_error`` from what a transport raised)

    httpx.TransportError            what a transport may raise; ours adds
    ├── LocalFault                  this machine could not open a connection or look a name up, whatever the host
    └── httpx.ConnectError
        ├── BlockedAddress          the address policy refused every address of the host
        ├── NameResolutionError     the name did not resolve (``permanent``: it does not exist)
        └── TlsError                the handshake failed (``permanent``: the certificate was refused)

    OSError
    └── SpillFailed                 no room, or no right, to keep a large body in a temporary file

A SpillFailed is the operator's to mend and no target's outcome: it ends ``fetch_all``, for every large body after it
would fail as well.

A transport speaks httpx's exceptions, so that any httpx transport fits. ``fetch_error`` is the one place where they are
turned into kinds.
"""

from __future__ import annotations

import errno
from enum import StrEnum

import httpx


class ErrorKind(StrEnum):
    """The closed set of reasons. Programs match on these; ``error_detail`` is for people."""

    INVALID_URL = "invalid_url"
    BLOCKED_ADDRESS = "blocked_address"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    DECODING = "decoding"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    HTTP_STATUS = "http_status"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


class FetchError(Exception):
    """One attempt failed.

    ``retryable`` says whether the same request may well succeed later; ``answered`` whether the host had sent at least
    the head of an answer (a host that never answers is given up after a while).
    """

    kind = ErrorKind.INTERNAL
    retryable = False

    def __init__(
        self, detail: str, *, kind: ErrorKind | None = None, retryable: bool | None = None, answered: bool = False
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if kind is not None:
            self.kind = kind
        if retryable is not None:
            self.retryable = retryable
        self.answered = answered


class InvalidUrl(FetchError, ValueError):
    """A URL that cannot or must not be requested; the text says why and, where known, what to write instead."""

    kind = ErrorKind.INVALID_URL


class TooLarge(FetchError):
    """The decoded body went over the limit; reading stopped there."""

    kind = ErrorKind.TOO_LARGE


class DecodingFailed(FetchError):
    """The body is not what its Content-Encoding says."""

    kind = ErrorKind.DECODING


class TooManyRedirects(FetchError):
    """The chain of redirects was longer than allowed."""

    kind = ErrorKind.TOO_MANY_REDIRECTS


class OwnFault(FetchError):
    """A limit or fault of this machine: not the target's or its host's, and the attempt does not count."""

    kind = ErrorKind.INTERNAL
    retryable = True


class SpillFailed(OSError):
    """A body could not be written to a temporary file; the text says where, why and what to do."""

    def __init__(self, folder: str, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        advice = "make room there, or name another folder (FETCHER_SPILL_FOLDER)"
        if cause.errno in (errno.EMFILE, errno.ENFILE):
            advice = "raise the limit (ulimit -n) or lower --concurrency"
        self._text = f"a large body cannot be kept in {folder}: {cause.strerror or cause}; {advice}"

    def __str__(self) -> str:
        return self._text


class LocalFault(httpx.TransportError):
    """A limit or fault of this machine kept a request from being sent. The text names it and says what to do."""


class BlockedAddress(httpx.ConnectError):
    """The address policy refused to connect. The text names the option that would allow it."""


class NameResolutionError(httpx.ConnectError):
    """A host name did not resolve. ``permanent`` where the name server said that it does not exist."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class TlsError(httpx.ConnectError):
    """The TLS handshake failed. ``permanent`` where the certificate was refused."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


_TIMEOUTS = {
    httpx.ConnectTimeout: "no connection within {connect:g} s (--connect-timeout)",
    httpx.ReadTimeout: "no bytes for {read:g} s (--read-timeout)",
    httpx.WriteTimeout: "the request could not be sent: no progress for {read:g} s (--read-timeout)",
    httpx.PoolTimeout: "no free connection",
}


def fetch_error(
    exc: httpx.TransportError | httpx.InvalidURL, *, connect: float, read: float, answered: bool
) -> FetchError:
    """Turn what a transport raised into a FetchError, the specific before the general.

    ``connect`` and ``read`` are the timeouts in seconds that were in force; the texts name them.
    """
    if isinstance(exc, LocalFault):
        return OwnFault(str(exc))
    if isinstance(exc, httpx.TimeoutException):
        text = _TIMEOUTS.get(type(exc), "timed out").format(connect=connect, read=read)
        return FetchError(text, kind=ErrorKind.TIMEOUT, retryable=True, answered=answered)
    detail = str(exc) or type(exc).__name__
    kind, retryable = _classify(exc)
    return FetchError(detail, kind=kind, retryable=retryable, answered=answered)


def _classify(exc: httpx.TransportError | httpx.InvalidURL) -> tuple[ErrorKind, bool]:
    match exc:
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return ErrorKind.INVALID_URL, False
        case BlockedAddress():
            return ErrorKind.BLOCKED_ADDRESS, False
        case NameResolutionError():
            return ErrorKind.DNS, not exc.permanent
        case TlsError():
            return ErrorKind.TLS, not exc.permanent
        case httpx.ConnectError():
            return ErrorKind.CONNECT, True
        case httpx.LocalProtocolError():
            return ErrorKind.PROTOCOL, False
        case httpx.NetworkError() | httpx.ProtocolError():
            return ErrorKind.PROTOCOL, True
        case httpx.ProxyError():
            return ErrorKind.CONNECT, True
        case _:
            return ErrorKind.INTERNAL, False
