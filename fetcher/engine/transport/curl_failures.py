"""libcurl's codes as httpx's exceptions, in the words of ``failures``.

libcurl gives one number to different things (a server that speaks no HTTP, and a protocol that it was not allowed to
speak), and words to some that change between versions. What its words decide is listed here, and tested.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

import httpx
import pycurl

from fetcher.engine.descriptors import exhausted, local_fault, ports_used_up
from fetcher.engine.errors import TlsError
from fetcher.engine.transport.failures import ClosedBeforeAnswer
from fetcher.engine.transport.head import Head

_WEIRD_ANSWER = 8
_HTTP3, _PROXY, _STREAM, _TOO_LARGE = 95, 97, 92, 100
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_LONGEST = 300
_MOST_INTERIM = 32
"""A server that needs time sends a few; one that never ends would send them for ever."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a transfer that failed. ``tried`` are addresses, ``length`` is what was declared."""

    host: str
    tried: tuple[str, ...]
    system: int
    """The system's error number, 0 where there was none."""
    answered: bool
    received: int
    length: int | None
    connect_timeout: float | None
    proxy: bool


def curl_failure(code: int, message: str, at: Circumstances) -> httpx.TransportError:
    """Return the exception for a transfer that ended with ``code``; ``message`` is libcurl's."""
    if code in _BEFORE_ANYTHING or code in _TLS:
        return _unopened(code, message, at)
    if code in _CUT_SHORT and at.answered:
        return cut_short(at.received, at.length)
    if code in (pycurl.E_GOT_NOTHING, pycurl.E_SEND_FAIL_REWIND):
        return ClosedBeforeAnswer("the server closed the connection before answering")
    if code == _TOO_LARGE or re.search(r"too large response headers|header line is too long", message.lower()):
        return httpx.RemoteProtocolError("the head of the answer is too long")
    if code in (_WEIRD_ANSWER, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_HTTP2, _STREAM):
        return httpx.RemoteProtocolError(f"the answer is not valid HTTP/1.1: {_short(message)}")
    if code in (pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR):
        return _broken(message, at)
    return httpx.ReadError(f"the connection failed: {_short(message)}")


def cut_short(received: int, length: int | None) -> httpx.RemoteProtocolError:
    """Return the exception for a body that ended after ``received`` of ``length`` bytes."""
    how_far = f", after {received} of {length} bytes" if length is not None else ""
    return httpx.RemoteProtocolError(f"the server closed the connection in the middle of the body{how_far}")


def interim_failure(status: int, number: int) -> httpx.RemoteProtocolError | None:
    """Return what is wrong with the answer before the real one, counted from 1 (RFC 9110, section 15.2)."""
    if status == 101:
        return httpx.RemoteProtocolError("the server switched protocols (101) without being asked")
    if number > _MOST_INTERIM:
        return httpx.RemoteProtocolError(f"the server sent more than {_MOST_INTERIM} interim answers (1xx)")
    return None


def shortfall(head: Head, method: str, received: int) -> httpx.RemoteProtocolError | None:
    """Return what is wrong with a body whose length libcurl did not go by, None where all came.

    The length of answers that have no body says nothing (RFC 9112, section 6.3).
    """
    if head.own_length is None or received >= head.own_length or method == "HEAD" or head.status in (204, 304):
        return None
    return cut_short(received, head.length)


_BEFORE_ANYTHING = {
    pycurl.E_OPERATION_TIMEDOUT,  # there is no other bound that libcurl keeps
    pycurl.E_COULDNT_RESOLVE_PROXY,
    pycurl.E_COULDNT_CONNECT,
    pycurl.E_URL_MALFORMAT,
    _PROXY,
}
_CUT_SHORT = {pycurl.E_PARTIAL_FILE, pycurl.E_HTTP2, _STREAM, _HTTP3}
_TLS = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
    pycurl.E_SSL_ISSUER_ERROR,
    pycurl.E_SSL_INVALIDCERTSTATUS,
    pycurl.E_USE_SSL_FAILED,
}


def _unopened(code: int, message: str, at: Circumstances) -> httpx.TransportError:
    if code == pycurl.E_URL_MALFORMAT:
        return httpx.UnsupportedProtocol(f"libcurl cannot read the URL: {_short(message)}")
    if code == pycurl.E_COULDNT_CONNECT and (fault := _local(at)) is not None:
        return fault
    if at.proxy and code != pycurl.E_OPERATION_TIMEDOUT and code not in _TLS:
        return httpx.ProxyError(f"the proxy cannot be used: {_unconnected(message, at)}; see FETCHER_PROXY")
    if code == pycurl.E_OPERATION_TIMEDOUT:
        through = " through the proxy" if at.proxy else ""
        return httpx.ConnectTimeout(f"no connection to {at.host}{through} within {at.connect_timeout or 0:g} s")
    return _tls(code, message, at) if code in _TLS else httpx.ConnectError(_unconnected(message, at))


def _local(at: Circumstances) -> httpx.TransportError | None:
    """Return the fault of this machine that kept a connection from being opened, None where it was none."""
    if at.system == errno.EADDRNOTAVAIL and at.tried and not at.tried[-1].startswith("["):
        return ports_used_up(at.tried[-1])
    return local_fault(at.system)


def _unconnected(message: str, at: Circumstances) -> str:
    address = at.tried[-1] if at.tried else at.host
    if len(at.tried) > 1:  # why is known of the last only
        address += f", the last of {len(at.tried)} addresses (before it {', '.join(at.tried[:-1])})"
    if at.system == errno.ECONNREFUSED:
        return f"connection refused by {address}"
    if at.system == errno.ETIMEDOUT:
        return f"no answer from {address}"
    if at.system in _NO_ROUTE:
        return f"no route to {address}"
    return f"cannot connect to {address}: {_words(message, at)}"


def _tls(code: int, message: str, at: Circumstances) -> httpx.TransportError:
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        if re.search(r"subject name matches|does not match target", message):
            message = f"Hostname mismatch, certificate is not valid for {at.host!r}"
        reason = message.removeprefix("SSL certificate problem: ").removeprefix("SSL: ")
        return TlsError(f"certificate verify failed: {_short(reason)}", permanent=True)
    if code in (pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CERTPROBLEM):
        if (fault := exhausted()) is not None:  # the files could not be opened
            return fault
        return TlsError(f"the certificates of FETCHER_CA_FILE, FETCHER_CLIENT_CERT cannot be used: {_short(message)}",
                        permanent=True)  # fmt: skip
    if re.search(r"wrong version number|packet length too long|record layer failure|http request", message):
        return TlsError(f"{at.host} does not speak TLS at this port", permanent=False)
    if at.system in (errno.ECONNRESET, errno.EPIPE) or re.search(r"SSL_ERROR_SYSCALL|unexpected eof|reset by peer",
                                                                 message):  # fmt: skip
        return TlsError(f"{at.host} closed the connection during the TLS handshake", permanent=False)
    return TlsError(f"TLS handshake failed: {_short(message)}", permanent=False)


def _broken(message: str, at: Circumstances) -> httpx.TransportError:
    if "unexpected eof" in message and at.answered:
        return httpx.RemoteProtocolError("the server closed the connection in the middle of the body")
    if not at.answered and not at.received:
        return ClosedBeforeAnswer("the server closed the connection before answering")
    if at.system in (errno.ECONNRESET, errno.EPIPE) or "reset" in message.lower():
        return httpx.ReadError("the server broke off the connection")
    return httpx.ReadError(f"the connection was lost: {_words(message, at)}")


def _words(message: str, at: Circumstances) -> str:
    return os.strerror(at.system).lower() if at.system else _short(message)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
