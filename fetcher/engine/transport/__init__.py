"""Transports: an httpx.Request in, an httpx.Response with a raw body out, httpx's exceptions when that fails.

::

    http        the transport: keeps connections, sends again where that is safe
    pool        idle connections
    http1       one connection's requests and answers
    network     dialling: look-up, judgement, TCP, TLS
    resolver    names to addresses in threads of its own
    stream      an open connection's bytes
    failures    what goes wrong below, as httpx's exceptions
    wire        what is noted down about a request
"""

from __future__ import annotations

from functools import cache

import httpx

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.config import FetchConfig
from fetcher.engine.transport.http import HttpTransport, verifying_context
from fetcher.engine.transport.network import Dialler
from fetcher.engine.transport.pool import IdlePool
from fetcher.engine.transport.resolver import Resolver
from fetcher.engine.transport.wire import WIRE, Wire

__all__ = ["WIRE", "Wire", "open_transport"]

# Reading the bundle takes some 50 ms, too long for a transport that a web view opens for a few requests. The context
# keeps nothing of a connection.
_default_context = cache(verifying_context)


def open_transport(config: FetchConfig) -> httpx.AsyncBaseTransport:
    """Return a transport for ``config``. To be called, used and closed inside one event loop."""
    dialler = Dialler(AddressPolicy(config.allowed_networks), Resolver(), _default_context())
    timeouts = {"connect": config.connect_timeout, "read": config.read_timeout, "write": config.read_timeout}
    return HttpTransport(dialler, IdlePool(config.concurrency), timeouts)
