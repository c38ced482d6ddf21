"""The one place where what went wrong below becomes httpx's exceptions, with texts for people.

The specific before the general: a certificate error is an SSL error, which is an OSError; a kernel's time-out is both
an OSError and a TimeoutError.
"""

from __future__ import annotations

import errno
import os
import re
import ssl

import h11
import httpx

from fetcher.engine.descriptors import local_fault, ports_used_up
from fetcher.engine.errors import TlsError

FOREIGN = (OSError, EOFError, RuntimeError, ValueError, h11.ProtocolError)
"""What sockets, TLS, the event loop and the parser may raise."""

_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_LONGEST = 300


class ClosedBeforeAnswer(httpx.RemoteProtocolError):
    """The connection ended before one byte of the answer came."""


def connect_failure(exc: Exception, address: str) -> httpx.TransportError:
    """For a failure to open a TCP connection to ``address``."""
    match exc:
        case httpx.TransportError():
            return exc
        case ConnectionRefusedError():
            return httpx.ConnectError(f"connection refused by {address}")
        case TimeoutError():
            return httpx.ConnectError(f"no answer from {address}")
        case OSError(errno=errno.EADDRNOTAVAIL) if not address.startswith("["):
            return ports_used_up(address)
        case OSError(errno=number) if number in _NO_ROUTE:
            return httpx.ConnectError(f"no route to {address}")
        case OSError(errno=number) if (fault := local_fault(number)) is not None:
            return fault
        case _:
            return httpx.ConnectError(f"cannot connect to {address}: {_words(exc)}")


def tls_failure(exc: Exception, host: str) -> httpx.TransportError:
    """For a failure of the TLS handshake with ``host``."""
    match exc:
        case httpx.TransportError():
            return exc
        case ssl.SSLCertVerificationError():
            return TlsError(f"certificate verify failed: {_words(exc)}", permanent=True)
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
            return TlsError(f"{host} does not speak TLS at this port", permanent=False)
        case ssl.SSLEOFError() | ConnectionError():
            return TlsError(f"{host} closed the connection during the TLS handshake", permanent=False)
        case ssl.SSLError():
            return TlsError(f"TLS handshake failed: {_words(exc)}", permanent=False)
        case _:
            return TlsError(f"TLS handshake failed: {_words(exc)}", permanent=False)


def exchange_failure(exc: Exception) -> httpx.TransportError:
    """For a failure while a request is sent or its answer is received."""
    match exc:
        case httpx.TransportError():
            return exc
        case h11.RemoteProtocolError():
            return httpx.RemoteProtocolError(_protocol(str(exc)))
        case h11.LocalProtocolError():  # h11 repeats a header's value, which may be a secret
            said = re.sub(r" (?:b|bytearray\(b)['\"].*", "", str(exc), flags=re.DOTALL)
            return httpx.LocalProtocolError(f"the request cannot be sent: {_short(said)}")
        case ssl.SSLEOFError():  # without close_notify anybody may have cut it (RFC 9112, section 9.8)
            return httpx.RemoteProtocolError("the server closed the connection in the middle of the body")
        case ssl.SSLError():
            return httpx.ReadError(f"the TLS connection broke: {_words(exc)}")
        case EOFError():
            return httpx.RemoteProtocolError(str(exc))
        case ConnectionError():
            return httpx.ReadError("the server broke off the connection")
        case OSError():
            return httpx.ReadError(f"the connection was lost: {_words(exc)}")
        case _:
            return httpx.ReadError(f"the connection failed: {_words(exc)}")


def _protocol(text: str) -> str:
    if text.startswith("peer closed connection without sending complete message body"):
        received = re.search(r"received (\d+) bytes, expected (\d+)", text)
        how_far = f", after {received[1]} of {received[2]} bytes" if received else ""
        return f"the server closed the connection in the middle of the body{how_far}"
    if text == "Receive buffer too long":
        return "the head of the answer is too long"
    shown = re.sub(r"bytearray\(b(.*)\)", r"\1", text, flags=re.DOTALL)
    return f"the answer is not valid HTTP/1.1: {_short(shown)}"


def _words(exc: BaseException) -> str:
    """Return the system's own words, without numbers, class names or source positions."""
    # OpenSSL's errors carry these attributes, those that Python makes itself do not.
    if isinstance(exc, ssl.SSLError) and (reason := getattr(exc, "verify_message", None)):
        return str(reason)
    if isinstance(exc, ssl.SSLError) and (reason := getattr(exc, "reason", None)):
        return str(reason).lower().replace("_", " ")
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ssl.SSLError):
        return os.strerror(exc.errno).lower()
    return _short(str(exc)) or type(exc).__name__


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
