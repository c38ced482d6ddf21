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
from fetcher.engine.errors import LocalFault
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
        NameResolutionError, TlsError, LocalFault, httpx.ConnectError and httpx.ConnectTimeout.
        """
        stream, host = None, name.decode("ascii")
        try:
            addresses = allowed_addresses(self._policy, host, await self._found(host, timeout, wire), port)
            async with asyncio.timeout(None if timeout is None else max(0.001, timeout - (wire.dns or 0))):
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

    async def _found(self, host: str, timeout: float | None, wire: Wire) -> tuple[str, ...]:  # noqa: ASYNC109
        if is_literal(host):
            return (host,)
        try:
            found, wire.dns = await self._resolver.look_up(host, timeout)
        except TimeoutError:
            wire.dns = timeout
            raise
        return found


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
        failures = {str(failure): failure for failure in (task.exception() for task in tries) if failure is not None}
        for failure in failures.values():
            if len(failures) == 1 or isinstance(failure, LocalFault):
                raise failure
        raise httpx.ConnectError("; ".join(failures))
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
def _clock(wire: Wire, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        setattr(wire, phase, time.perf_counter() - start)
