"""A server of one's own on loopback, and transports to it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import trustme

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.transport.dialler import Dialler
from fetcher.engine.transport.http import HttpTransport, verifying_context
from fetcher.engine.transport.libcurl import LibcurlTransport
from fetcher.engine.transport.options import ConnectionOptions
from fetcher.engine.transport.resolver import Lookup, Resolver, system_lookup
from tests.fetcher.engine.transport.loopback import LOOPBACK, TIMEOUTS, Handler, MakeTransport, Serve, Server


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers: ``await serve(answers)`` sends these bytes one request after the other, the last for ever."""
    running: list[asyncio.Server] = []
    servers: list[Server] = []

    async def start(
        *answers: bytes, handler: Callable[[Server], Handler] | None = None, tls: ssl.SSLContext | None = None
    ) -> Server:
        server = Server()
        script = list(answers)

        async def keep_answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read_head(reader)
                writer.write(script.pop(0) if len(script) > 1 else script[0])
                await writer.drain()

        handle = keep_answering if handler is None else handler(server)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.accepted += 1
            server.writers.append(writer)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handle(reader, writer)
            writer.transport.abort()

        listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        server.port = listening.sockets[0].getsockname()[1]
        running.append(listening)
        servers.append(server)
        return server

    yield start
    for listening in running:
        listening.close()
    for server in servers:
        for writer in server.writers:
            writer.transport.abort()
    await asyncio.sleep(0.01)


@pytest.fixture(params=["httpx", "libcurl"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which transport: whatever is written for one of them holds for the other."""
    return str(request.param)


@pytest.fixture
async def make_transport(kind: str) -> AsyncIterator[MakeTransport]:
    """Build transports that are closed at the end of the test."""
    made: list[HttpTransport | LibcurlTransport] = []

    def make(
        policy: AddressPolicy = LOOPBACK,
        lookup: Lookup = system_lookup,
        ca_file: str = "",
        idle: int = 100,
        ttl: float = 30.0,
    ) -> httpx.AsyncBaseTransport:
        resolver = Resolver(lookup, ttl=ttl)
        if kind == "libcurl":
            options = ConnectionOptions(ca_file=ca_file)
            made.append(LibcurlTransport(policy, resolver, TIMEOUTS, connections=idle, options=options))
        else:
            dialler = Dialler(policy, resolver, verifying_context(ca_file or None))
            made.append(HttpTransport(dialler, TIMEOUTS, connections=idle))
        return made[-1]

    yield make
    for transport in made:
        await transport.aclose()


@pytest.fixture
async def transport(make_transport: MakeTransport) -> httpx.AsyncBaseTransport:
    return make_transport()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    """The path of a file with the authority's certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)
