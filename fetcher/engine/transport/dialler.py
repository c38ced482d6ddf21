"""Opening connections: look the name up, judge every answer, connect to the very address that was judged.

There is no second look-up between the judgement and the connection, so a name that changes its answer in between gains
nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.transport.failures import FOREIGN, connect_failure, tls_failure
from fetcher.engine.transport.network import allowed_addresses, is_literal
from fetcher.engine.transport.resolver import Resolver
from fetcher.engine.transport.stream import Stream
from fetcher.engine.transport.wire import Wire

_HEAD_START = 0.25  # seconds before the next address is tried beside the last one (RFC 8305, section 5)


class Dialler:
    """Opens connections to addresses that ``policy`` allows; TLS with ``ssl_context``."""

    def __init__(self, policy: AddressPolicy, resolver: Resolver, ssl_context: ssl.SSLContext) -> None:
        self._policy = policy
        self._resolver = resolver
        self._ssl_context = ssl_context

    async def dial(self, scheme: bytes, name: bytes, port: int, timeout: float | None, wire: Wire) -> Stream:  # noqa: ASYNC109
        """Return an open connection. ``timeout`` bounds look-up, TCP and TLS together.

        Of a name's addresses those that the policy refuses are left out. Raises BlockedAddress where none is left,
        NameResolutionError, TlsError, httpx.ConnectError and httpx.ConnectTimeout.
        """
        stream, host = None, name.decode("ascii")
        try:
            async with asyncio.timeout(timeout):
                with _clock(wire, "dns", when=not is_literal(host)):
                    addresses = await self._allowed(host, port)
                with _clock(wire, "connect"):
                    stream = Stream(*await _first_connected(addresses, port))
                wire.address = stream.address
                if scheme == b"https":
                    with _clock(wire, "tls"):
                        await stream.secure(self._ssl_context, host.rstrip("."))
                return stream
        except BaseException as exc:
            if stream is not None:
                stream.close()
            if isinstance(exc, TimeoutError) and exc.errno is None:  # otherwise the kernel's own
                raise httpx.ConnectTimeout(f"no connection to {host} within {timeout:g} s") from None
            if stream is not None and isinstance(exc, FOREIGN):
                raise tls_failure(exc, host) from exc
            raise

    def close(self) -> None:
        """Let the resolver's threads end."""
        self._resolver.close()

    async def _allowed(self, host: str, port: int) -> list[str]:
        found = (host,) if is_literal(host) else await self._resolver.resolve(host)
        return allowed_addresses(self._policy, host, found, port)


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
        failures = [failure for task in tries if (failure := task.exception()) is not None]
        for failure in failures:
            if not isinstance(failure, httpx.ConnectError):  # a fault of this machine, at whichever address
                raise failure
        raise httpx.ConnectError("; ".join(dict.fromkeys(map(str, failures))))
    return winner


async def _connect(address: str, port: int) -> tuple[socket.socket, str]:
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    sock = None
    try:
        # No look-up: this reads the address, which may have a zone.
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=numeric)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are sent by a call each
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException as exc:
        if sock is not None:
            sock.close()
        if isinstance(exc, FOREIGN):
            raise connect_failure(exc, shown) from exc
        raise
    return sock, shown


@contextmanager
def _clock(wire: Wire, phase: str, *, when: bool = True) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        if when:
            setattr(wire, phase, time.perf_counter() - start)
