"""Opening connections: look the name up, judge every answer, connect to the very address that was judged.

There is no second look-up between the judgement and the connection, so a name that changes its answer in between gains
nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, zip_longest

import httpx

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.errors import BlockedAddress
from fetcher.engine.transport.failures import FOREIGN, connect_failure, tls_failure
from fetcher.engine.transport.resolver import Resolver
from fetcher.engine.transport.stream import Stream
from fetcher.engine.transport.wire import Wire

_HEAD_START = 0.25  # seconds before the next address is tried beside the last one (RFC 8305, section 5)
_TRIED = 8  # addresses at most, of what may be hundreds


class Dialler:
    """Opens connections to addresses that ``policy`` allows; TLS with ``ssl_context``."""

    def __init__(self, policy: AddressPolicy, resolver: Resolver, ssl_context: ssl.SSLContext) -> None:
        self._policy = policy
        self._resolver = resolver
        self._ssl_context = ssl_context

    async def dial(self, scheme: str, host: str, port: int, timeout: float | None, wire: Wire) -> Stream:  # noqa: ASYNC109
        """Return an open connection. ``timeout`` bounds look-up, TCP and TLS together.

        Of a name's addresses those that the policy refuses are left out. Raises BlockedAddress where none is left,
        NameResolutionError, TlsError, httpx.ConnectError and httpx.ConnectTimeout.
        """
        stream = None
        try:
            async with asyncio.timeout(timeout):
                with _clock(wire, "dns", when=not is_literal(host)):
                    addresses = await self._allowed(host, port)
                with _clock(wire, "connect"):
                    stream = Stream(*await _first_connected(addresses, port))
                wire.address = stream.address
                if scheme == "https":
                    with _clock(wire, "tls"):
                        await self._secure(stream, host)
                return stream
        except BaseException as exc:
            if stream is not None:
                stream.close()
            if isinstance(exc, TimeoutError):
                raise httpx.ConnectTimeout(f"no connection to {host} within {timeout:g} s") from None
            raise

    def close(self) -> None:
        """Let the resolver's threads end."""
        self._resolver.close()

    async def _allowed(self, host: str, port: int) -> list[str]:
        found = (host,) if is_literal(host) else await self._resolver.resolve(host)
        return allowed_addresses(self._policy, host, found, port)

    async def _secure(self, stream: Stream, host: str) -> None:
        try:
            await stream.secure(self._ssl_context, host.rstrip("."))
        except FOREIGN as exc:
            raise tls_failure(exc, host) from exc


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


async def _first_connected(addresses: list[str], port: int) -> tuple[socket.socket, str]:
    """Connect to one of ``addresses``: each gets a head start on the next, the first to succeed wins."""
    if len(addresses) == 1:
        return await _connect(addresses[0], port)
    tries: list[asyncio.Task[tuple[socket.socket, str]]] = []
    winner: tuple[socket.socket, str] | None = None
    try:
        waiting = list(reversed(addresses))
        while winner is None and (waiting or not all(task.done() for task in tries)):
            if waiting:
                tries.append(asyncio.ensure_future(_connect(waiting.pop(), port)))
            running = [task for task in tries if not task.done()]
            await asyncio.wait(running, timeout=_HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task.result() for task in tries if task.done() and not task.exception()), None)
    finally:
        for task in tries:
            if not task.done():
                task.cancel()
            elif not task.cancelled() and not task.exception() and (winner is None or task.result() is not winner):
                task.result()[0].close()
    if winner is None:
        texts = dict.fromkeys(str(task.exception()) for task in tries)
        raise httpx.ConnectError("; ".join(texts))
    return winner


async def _connect(address: str, port: int) -> tuple[socket.socket, str]:
    ip, _, zone = address.partition("%")
    v6 = ":" in ip
    shown = f"[{address}]:{port}" if v6 else f"{address}:{port}"
    sock = None
    try:
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        target = (ip, port, 0, _zone_index(zone)) if v6 else (ip, port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are sent by a call each
        await asyncio.get_running_loop().sock_connect(sock, target)
    except FOREIGN as exc:
        if sock is not None:
            sock.close()
        raise connect_failure(exc, shown) from exc
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    return sock, shown


def _zone_index(zone: str) -> int:
    if not zone:
        return 0
    return int(zone) if zone.isdigit() else socket.if_nametoindex(zone)


@contextmanager
def _clock(wire: Wire, phase: str, *, when: bool = True) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        if when:
            setattr(wire, phase, time.perf_counter() - start)
