"""Which addresses may be connected to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """A network, or one port in it, that may be connected to although it is not public."""

    network: Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> AllowedNetwork:
        """Read ``10.0.0.0/8``, ``127.0.0.1``, ``127.0.0.1:8000``, ``fd00::/8`` or ``[::1]:8000``. Raises ValueError."""
        return cls(ipaddress.ip_network(text))
