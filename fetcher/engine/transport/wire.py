"""What a transport notes down about one request while it is under way."""

from __future__ import annotations

from dataclasses import dataclass

WIRE = "trawl.wire"
"""The key of ``request.extensions`` under which a client leaves a Wire to be filled."""


@dataclass(slots=True)
class Wire:
    """Filled as far as a request came, also when it fails or is cancelled.

    ``address`` is the peer as ``ip:port`` or ``[ip6]:port``, ``http_version`` such as ``HTTP/1.1``. ``dns``,
    ``connect`` and ``tls`` are seconds, None where there was no such phase. ``reused`` tells a kept-alive connection.
    """

    address: str | None = None
    http_version: str | None = None
    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    reused: bool = False
