"""Transports: an httpx.Request in, an httpx.Response with a raw body out, httpx's exceptions when that fails.

::

    options         which transport, and how it connects
    libcurl         the fast one, where pycurl is: requests, answers, what bounds them
    curl_options    what libcurl is told
    curl_transfer   one request through one of libcurl's handles
    curl_socket     the socket of a new connection
    curl_driver     libcurl driven by the event loop
    curl_watch      which sockets are ready
    curl_reuse      which kept connections an unsafe request may go on
    curl_failures   libcurl's codes as httpx's exceptions
    head            the head of an answer
    http            the portable one, on httpcore: keeps connections, sends again where that is safe
    pool            its idle connections
    http1           httpcore's connection, made safe against its peer
    dialler         look-up, judgement, TCP, TLS
    stream          an open connection's bytes
    failures        what goes wrong below, as httpx's exceptions
    network         which addresses are connected to; for both
    resolver        names to addresses in threads of its own; for both
    messages        a request and a response that are cheap to build; for both
    wire            what is noted down about a request; for both
"""

from __future__ import annotations

from fetcher.engine.transport.choice import Choice, choose_transport, open_transport
from fetcher.engine.transport.messages import PreparedRequest
from fetcher.engine.transport.options import ConnectionOptions
from fetcher.engine.transport.wire import WIRE, Wire

__all__ = ["WIRE", "Choice", "ConnectionOptions", "PreparedRequest", "Wire", "choose_transport", "open_transport"]
