"""Which addresses may be connected to.

The networks and their reasons are a table of our own, after the IANA special-purpose address registries (RFC 6890 and
its successors): ``ipaddress.is_global`` changes between Python versions and misses most embeddings.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PUBLIC = ""
# The longest prefix that holds an address decides. "a", "an" and "the" are part of the reason, so that it reads.
_REASONS = {
    "0.0.0.0/0": _PUBLIC,
    "0.0.0.0/8": "an address of 'this network' (RFC 791)",
    "10.0.0.0/8": "a private address (RFC 1918)",
    "100.64.0.0/10": "a shared address of a carrier's NAT (RFC 6598)",
    "100.100.100.200/32": "a cloud metadata address",
    "127.0.0.0/8": "a loopback address",
    "168.63.129.16/32": "a cloud metadata address",
    "169.254.0.0/16": "a link-local address (RFC 3927)",
    "169.254.169.254/32": "a cloud metadata address",
    "169.254.170.2/32": "a cloud metadata address",
    "172.16.0.0/12": "a private address (RFC 1918)",
    "192.0.0.0/24": "an IETF protocol assignment (RFC 6890)",
    "192.0.0.192/32": "a cloud metadata address",
    "192.0.2.0/24": "a documentation address (RFC 5737)",
    "192.88.99.0/24": "a 6to4 relay anycast address (RFC 7526)",
    "192.168.0.0/16": "a private address (RFC 1918)",
    "198.18.0.0/15": "a benchmarking address (RFC 2544)",
    "198.51.100.0/24": "a documentation address (RFC 5737)",
    "203.0.113.0/24": "a documentation address (RFC 5737)",
    "224.0.0.0/4": "a multicast address",
    "240.0.0.0/4": "a reserved address (RFC 1112)",
    "255.255.255.255/32": "the broadcast address",
    "::/0": "a reserved address, outside the global unicast space (RFC 4291)",
    "::/96": _PUBLIC,
    "::/128": "the unspecified address",
    "::1/128": "a loopback address",
    "::ffff:0:0/96": _PUBLIC,
    "64:ff9b::/96": _PUBLIC,
    "64:ff9b:1::/48": "a local-use translation address (RFC 8215)",
    "100::/64": "a discard-only address (RFC 6666)",
    "100:0:0:1::/64": "a dummy address (RFC 9780)",
    "2000::/3": _PUBLIC,
    "2001::/23": "an IETF protocol assignment (RFC 2928)",
    "2001::/32": _PUBLIC,
    "2001:1::1/128": _PUBLIC,
    "2001:1::2/128": _PUBLIC,
    "2001:1::3/128": _PUBLIC,
    "2001:2::/48": "a benchmarking address (RFC 5180)",
    "2001:3::/32": _PUBLIC,
    "2001:4:112::/48": _PUBLIC,
    "2001:10::/28": "a deprecated ORCHID address (RFC 4843)",
    "2001:20::/28": "an ORCHID, which is no address to connect to (RFC 7343)",
    "2001:30::/28": "a drone identifier, which is no address to connect to (RFC 9374)",
    "2001:db8::/32": "a documentation address (RFC 3849)",
    "3fff::/20": "a documentation address (RFC 9637)",
    "5f00::/16": "a segment routing identifier (RFC 9602)",
    "fc00::/7": "a unique local address (RFC 4193)",
    "fd00:ec2::254/128": "a cloud metadata address",
    "fd20:ce::254/128": "a cloud metadata address",
    "fe80::/10": "a link-local address (RFC 4291)",
    "fec0::/10": "a site-local address (RFC 3879)",
    "ff00::/8": "a multicast address",
}
# As (version, prefix length) -> {leading bits -> reason}, longest prefix first: a look-up is a few dictionary reads.
_Table = list[tuple[int, dict[int, str]]]


def _table(version: int, width: int) -> _Table:
    table: dict[int, dict[int, str]] = {}
    for text, reason in _REASONS.items():
        network = ipaddress.ip_network(text)
        if network.version == version:
            shift = width - network.prefixlen
            table.setdefault(shift, {})[int(network.network_address) >> shift] = reason
    return sorted(table.items())


_TABLES = {4: _table(4, 32), 6: _table(6, 128)}


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """A network, or one port in it, that may be connected to although it is not public."""

    network: Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> AllowedNetwork:
        """Read a network or an address, with or without a port. Raises ValueError.

        Examples: ``10.0.0.0/8``, ``10.0.0.0/8:443``, ``127.0.0.1``, ``127.0.0.1:8000``, ``fd00::/8``,
        ``[fd00::/8]:443``, ``::1``, ``[::1]``, ``[::1]:8000``.
        """
        text = text.strip()
        network, port = text, None
        if match := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text):
            network, port = match[1], match[2]
            if ":" not in network:
                raise ValueError(f"{text!r} has brackets around what is no IPv6 address")
        elif text.count(":") == 1:
            network, port = text.split(":")
        return cls(_network(network, text), None if port is None else _port(port, text))

    def __str__(self) -> str:
        """Write it so that ``parse`` reads the same again."""
        whole = self.network.prefixlen == self.network.max_prefixlen
        text = str(self.network.network_address if whole else self.network)
        if self.port is None:
            return text
        return f"[{text}]:{self.port}" if self.network.version == 6 else f"{text}:{self.port}"

    def covers(self, address: Address, port: int) -> bool:
        """Whether this allows to connect to ``address`` at ``port``."""
        return self.port in (None, port) and address in self.network


def _network(text: str, whole: str) -> Network:
    if "%" in text:
        raise ValueError(f"{whole!r} has a zone; leave out the '%' and what follows it")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        right = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{whole!r} is not a network; write an address or a network such as 127.0.0.1, 10.0.0.0/8, "
            "127.0.0.1:8000, fd00::/8 or [::1]:8000"
        ) from None
    raise ValueError(f"{text} is an address inside a network; write the network itself, {right}")


def _port(text: str, whole: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{whole!r} has no valid port; a port is a number from 1 to 65535")
    return int(text)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Public addresses, and what is allowed besides."""

    allowed: tuple[AllowedNetwork, ...] = ()

    def judge(self, address: str | Address, port: int) -> str | None:
        """Return None where ``address`` may be connected to at ``port``, otherwise why not, as a sentence for a person.

        An address that embeds IPv4 addresses is judged by each of them too. What is no IP address is refused.
        """
        refusal = _refusal(str(address))
        if refusal is None or self._allows(refusal.forms, port):
            return None
        return refusal.text

    def _allows(self, forms: tuple[Address, ...], port: int) -> bool:
        return any(network.covers(form, port) for network in self.allowed for form in forms)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """``forms`` are the addresses of which one has to be allowed: the address itself, and the IPv4 one it maps."""

    text: str
    forms: tuple[Address, ...]


@lru_cache(maxsize=8192)
def _refusal(text: str) -> _Refusal | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return _Refusal(f"{text!r} is not an IP address", ())
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    forms: tuple[Address, ...] = (address,) if mapped is None else (mapped, address)
    advice = f"allow it with --allow-network {forms[0]}/{forms[0].max_prefixlen}"
    if reason := _reason(address):
        return _Refusal(f"{text} is {reason}; {advice}", forms)
    for embedded in _embedded(address):
        if reason := _reason(embedded):
            return _Refusal(f"{text} holds {embedded}, {reason}; {advice}", forms)
    return None


def _reason(address: Address) -> str:
    number = int(address)
    for shift, reasons in _TABLES[address.version]:
        reason = reasons.get(number >> shift)
        if reason is not None:
            return reason
    raise AssertionError("the table ends with the whole space")


def _embedded(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield every IPv4 address that a translator, a tunnel or a kernel could take out of an IPv6 one."""
    if address.version == 4:
        return
    number = int(address)
    low = number & 0xFFFFFFFF
    if number >> 32 in (0, 0xFFFF, 0x64FF9B << 64):  # IPv4-compatible and IPv4-mapped (RFC 4291), NAT64 (RFC 6052)
        yield ipaddress.IPv4Address(low)
    if number >> 112 == 0x2002:  # 6to4 (RFC 3056)
        yield ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    if number >> 96 == 0x20010000:  # Teredo (RFC 4380): the server, and the client with its bits inverted
        yield ipaddress.IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield ipaddress.IPv4Address(low ^ 0xFFFFFFFF)
    if number >> 32 & 0xFDFFFFFF == 0x00005EFE:  # ISATAP (RFC 5214), under any prefix, either universal bit
        yield ipaddress.IPv4Address(low)
