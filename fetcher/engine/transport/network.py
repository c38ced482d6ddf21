"""Which of a host's addresses are connected to, and in which order; for both transports."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, zip_longest

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.errors import BlockedAddress

_TRIED = 8  # addresses at most, of what may be hundreds


def allowed_addresses(policy: AddressPolicy, host: str, found: Sequence[str], port: int) -> list[str]:
    """Return those of a host's addresses that may be connected to, in the order to try them; a few of many.

    Raises BlockedAddress where there is none.
    """
    refusals = {address: policy.judge(address, port) for address in found}
    allowed = [address for address, refusal in refusals.items() if refusal is None]
    if not allowed:
        reasons = "; ".join(list(filter(None, refusals.values()))[:3])
        raise BlockedAddress(reasons if is_literal(host) else f"{host}: {reasons}")
    return _interleaved(allowed)[:_TRIED]


@lru_cache(maxsize=4096)
def is_literal(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _interleaved(addresses: list[str]) -> list[str]:
    """Alternate between the families, the first answer's first (RFC 8305, section 4)."""
    first_is_v6 = ":" in addresses[0]
    first = [address for address in addresses if (":" in address) is first_is_v6]
    second = [address for address in addresses if (":" in address) is not first_is_v6]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]
