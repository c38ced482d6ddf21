"""Whatever goes wrong below has one of httpx's exceptions and a text for people."""

import errno
import re
import ssl

import h11
import httpx
import pytest

from fetcher.engine.errors import LocalFault, TlsError
from fetcher.engine.transport.failures import connect_failure, exchange_failure, tls_failure


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "connection refused by 192.0.2.1:80"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "no answer from 192.0.2.1:80"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no route to 192.0.2.1:80"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to 192.0.2.1:80"),
        (PermissionError(errno.EPERM, "x"), "cannot connect to 192.0.2.1:80: operation not permitted"),
        (ValueError("odd"), "cannot connect to 192.0.2.1:80: odd"),
    ],
)
def test_a_failure_to_connect(error: Exception, text: str) -> None:
    failure = connect_failure(error, "192.0.2.1:80")
    assert type(failure) is httpx.ConnectError
    assert str(failure) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EMFILE, r"this process has as many files open as it may \(\d+\); .*ulimit -n.* --concurrency"),
        (errno.ENFILE, "this machine has as many files open as it may"),
        (errno.ENOBUFS, "this machine has no memory for another connection; lower --concurrency"),
        (errno.ENOMEM, "this machine has no memory for another connection; lower --concurrency"),
        (errno.EADDRNOTAVAIL, "this machine has no port left for a connection to 192.0.2.1:80; lower --concurrency"),
    ],
)
def test_connect_failure_names_this_machine_when_its_own_limit_is_reached(number: int, text: str) -> None:
    failure = connect_failure(OSError(number, "x"), "192.0.2.1:80")
    assert type(failure) is LocalFault
    assert re.match(text, str(failure))


def test_connect_failure_says_no_route_when_this_machine_has_no_ipv6_address() -> None:
    failure = connect_failure(OSError(errno.EADDRNOTAVAIL, "x"), "[2001:db8::1]:80")
    assert (type(failure), str(failure)) == (httpx.ConnectError, "no route to [2001:db8::1]:80")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionResetError(), "a.test closed the connection during the TLS handshake"),
        (ssl.SSLEOFError(8, "x"), "a.test closed the connection during the TLS handshake"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_INTERNAL_ERROR] x (_ssl.c:1)"), "TLS handshake failed: "),
        (UnicodeError("label too long"), "TLS handshake failed: label too long"),
    ],
)
def test_a_failure_of_the_handshake_may_pass(error: Exception, text: str) -> None:
    failure = tls_failure(error, "a.test")
    assert isinstance(failure, TlsError)
    assert not failure.permanent
    assert str(failure).startswith(text)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ConnectionResetError(), httpx.ReadError, "the server broke off the connection"),
        (BrokenPipeError(), httpx.ReadError, "the server broke off the connection"),
        (TimeoutError(errno.ETIMEDOUT, "x"), httpx.ReadError, "the connection was lost: connection timed out"),
        (RuntimeError("odd"), httpx.ReadError, "the connection failed: odd"),
        (RuntimeError(), httpx.ReadError, "the connection failed: RuntimeError"),
        (h11.LocalProtocolError("odd"), httpx.LocalProtocolError, "the request cannot be sent: odd"),
        (
            h11.LocalProtocolError(r"Illegal header value b'Bearer s3cret\n'"),
            httpx.LocalProtocolError,
            "the request cannot be sent: Illegal header value",
        ),
        (
            ssl.SSLEOFError(8, "x"),
            httpx.RemoteProtocolError,
            "the server closed the connection in the middle of the body",
        ),
        (
            h11.RemoteProtocolError("illegal header line: bytearray(b'no colon')"),
            httpx.RemoteProtocolError,
            "the answer is not valid HTTP/1.1: illegal header line: 'no colon'",
        ),
        (h11.RemoteProtocolError("odd"), httpx.RemoteProtocolError, "the answer is not valid HTTP/1.1: odd"),
        (httpx.ReadTimeout("kept"), httpx.ReadTimeout, "kept"),
    ],
)
def test_a_failure_of_the_exchange(error: Exception, kind: type[Exception], text: str) -> None:
    failure = exchange_failure(error)
    assert type(failure) is kind
    assert str(failure) == text


def test_a_refused_certificate_is_refused_for_good() -> None:
    failure = tls_failure(ssl.SSLCertVerificationError("made by hand"), "a.test")
    assert isinstance(failure, TlsError)
    assert failure.permanent


def test_a_text_is_never_longer_than_a_person_reads() -> None:
    assert len(str(exchange_failure(h11.RemoteProtocolError("x" * 100_000)))) < 400
