"""What transports raise becomes one closed set of kinds, with texts for people."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from fetcher.engine.errors import (
    BlockedAddress,
    DecodingFailed,
    ErrorKind,
    FetchError,
    InvalidUrl,
    LocalFault,
    NameResolutionError,
    OwnFault,
    TlsError,
    TooLarge,
    TooManyRedirects,
    fetch_error,
)


def mapped(exc: httpx.TransportError | httpx.InvalidURL, answered: bool = False) -> FetchError:
    return fetch_error(exc, connect=10, read=2.5, answered=answered)


def family(cls: type[httpx.TransportError]) -> Iterator[type[httpx.TransportError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from family(child)


@pytest.mark.parametrize(
    ("exc", "kind", "retryable", "detail"),
    [
        (httpx.ConnectTimeout(""), "timeout", True, "no connection within 10 s (--connect-timeout)"),
        (httpx.ReadTimeout(""), "timeout", True, "no bytes for 2.5 s (--read-timeout)"),
        (
            httpx.WriteTimeout(""),
            "timeout",
            True,
            "the request could not be sent: no progress for 2.5 s (--read-timeout)",
        ),
        (httpx.PoolTimeout(""), "timeout", True, "no free connection"),
        (httpx.TimeoutException("x"), "timeout", True, "timed out"),
        (BlockedAddress("10.0.0.1 is private"), "blocked_address", False, "10.0.0.1 is private"),
        (NameResolutionError("no such host", permanent=True), "dns", False, "no such host"),
        (NameResolutionError("try again", permanent=False), "dns", True, "try again"),
        (TlsError("expired", permanent=True), "tls", False, "expired"),
        (TlsError("broken off", permanent=False), "tls", True, "broken off"),
        (httpx.ConnectError("refused"), "connect", True, "refused"),
        (httpx.ProxyError("no"), "connect", True, "no"),
        (httpx.ReadError("reset"), "protocol", True, "reset"),
        (httpx.WriteError("reset"), "protocol", True, "reset"),
        (httpx.CloseError("reset"), "protocol", True, "reset"),
        (httpx.RemoteProtocolError("garbage"), "protocol", True, "garbage"),
        (httpx.LocalProtocolError("ours"), "protocol", False, "ours"),
        (httpx.UnsupportedProtocol("ftp"), "invalid_url", False, "ftp"),
        (httpx.InvalidURL("bad"), "invalid_url", False, "bad"),
        (httpx.ReadError(""), "protocol", True, "ReadError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_kinds_and_texts(exc: httpx.TransportError | httpx.InvalidURL, kind: str, retryable: bool, detail: str) -> None:
    error = mapped(exc)

    assert (error.kind, error.retryable, error.detail) == (kind, retryable, detail)


@pytest.mark.parametrize("cls", sorted(set(family(httpx.TransportError)), key=lambda cls: cls.__name__))
def test_every_transport_error_has_a_kind_of_its_own(cls: type[httpx.TransportError]) -> None:
    takes_permanent = issubclass(cls, NameResolutionError | TlsError)
    error = mapped(cls("text", permanent=True) if takes_permanent else cls("text"))  # type: ignore[call-arg]

    assert (error.kind is ErrorKind.INTERNAL) == (cls in (httpx.TransportError, LocalFault))
    assert isinstance(error, OwnFault) == (cls is LocalFault)
    assert error.detail


@pytest.mark.parametrize("answered", [True, False])
def test_whether_the_host_had_answered_is_kept(answered: bool) -> None:
    assert mapped(httpx.ReadTimeout(""), answered).answered is answered
    assert mapped(httpx.ReadError(""), answered).answered is answered


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (InvalidUrl, "invalid_url"),
        (TooLarge, "too_large"),
        (DecodingFailed, "decoding"),
        (TooManyRedirects, "too_many_redirects"),
    ],
)
def test_our_own_errors_carry_their_kind_and_are_final(cls: type[FetchError], kind: str) -> None:
    error = cls("why")

    assert (error.kind, error.retryable, error.answered, str(error)) == (kind, False, False, "why")


def test_a_kind_given_is_that_errors_only() -> None:
    FetchError("x", kind=ErrorKind.DNS, retryable=True)

    assert (FetchError("y").kind, FetchError("y").retryable) == (ErrorKind.INTERNAL, False)


def test_an_invalid_url_is_a_value_error() -> None:
    assert issubclass(InvalidUrl, ValueError)
