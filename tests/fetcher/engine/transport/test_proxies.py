"""Through a proxy: what it is told, what is judged before, and what is said when it cannot be used."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest
import trustme

from fetcher.engine.addresses import AddressPolicy
from fetcher.engine.errors import BlockedAddress
from fetcher.engine.transport import WIRE, ConnectionOptions, Wire
from fetcher.engine.transport.libcurl import LibcurlTransport
from fetcher.engine.transport.resolver import Resolver, system_lookup
from tests.fetcher.engine.transport.loopback import TIMEOUTS, Serve, fetch, ok
from tests.support.processes import free_port


@pytest.fixture
def kind() -> str:
    return "libcurl"


@dataclass
class Proxy:
    """Sends everything to one port of loopback, whatever it is asked for; ``asked`` are the requests' first bytes."""

    to: int
    port: int = 0
    asked: list[bytes] = field(default_factory=list)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        origin, upstream = await asyncio.open_connection("127.0.0.1", self.to)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: not the answer's\r\n\r\n")
        else:
            upstream.write(head)
        await _join(reader, upstream, origin, writer)

    async def socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """SOCKS5 (RFC 1928), without authentication."""
        methods = (await reader.readexactly(2))[1]
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        *_, kind = await reader.readexactly(4)
        length = (await reader.readexactly(1))[0] if kind == 3 else 4
        self.asked.append((b"name " if kind == 3 else b"address ") + await reader.readexactly(length))
        await reader.readexactly(2)
        origin, upstream = await asyncio.open_connection("127.0.0.1", self.to)
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        await _join(reader, upstream, origin, writer)


async def _join(
    reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, origin: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:  # fmt: skip
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, upstream), pump(origin, writer), return_exceptions=True)
    upstream.close()
    writer.close()


StartProxy = Callable[..., Awaitable[Proxy]]


@pytest.fixture
async def start_proxy() -> AsyncIterator[StartProxy]:
    running: list[asyncio.Server] = []

    async def start(to: int, *, socks: bool = False) -> Proxy:
        proxy = Proxy(to)
        listening = await asyncio.start_server(proxy.socks if socks else proxy.http, "127.0.0.1", 0)
        proxy.port = listening.sockets[0].getsockname()[1]
        running.append(listening)
        return proxy

    yield start
    for listening in running:
        listening.close()
    await asyncio.sleep(0.01)


def through(proxy: str, **options: str) -> LibcurlTransport:
    """Return a transport whose policy allows nothing private: what it connects to is the proxy."""
    made = ConnectionOptions(proxy=proxy, **options)
    return LibcurlTransport(AddressPolicy(), Resolver(system_lookup), TIMEOUTS, options=made)


async def test_an_http_proxy_is_asked_for_the_whole_url(serve: Serve, start_proxy: StartProxy) -> None:
    server = await serve(ok(b"hello"))
    proxy = await start_proxy(server.port)
    transport = through(f"http://user:word@127.0.0.1:{proxy.port}")
    request = httpx.Request("GET", "http://a.invalid/path?q", headers={"X-One": "1"}, extensions={WIRE: Wire()})
    assert (await fetch(transport, request))[1] == b"hello"
    assert proxy.asked[0].startswith(b"GET http://a.invalid/path?q HTTP/1.1\r\nHost: a.invalid\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in proxy.asked[0]
    assert request.extensions[WIRE].address == f"127.0.0.1:{proxy.port}"
    await transport.aclose()


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_path_reaches_the_server_as_it_was_given(serve: Serve, start_proxy: StartProxy, scheme: str) -> None:
    server = await serve(ok())
    proxy = await start_proxy(server.port, socks=scheme == "socks5h")
    transport = through(f"{scheme}://127.0.0.1:{proxy.port}")
    await fetch(transport, httpx.Request("GET", "http://a.invalid/a%2fb?q"))
    target = b"/a%2fb?q" if scheme == "socks5h" else b"http://a.invalid/a%2fb?q"
    assert server.requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\nHost: a.invalid\r\n")
    await transport.aclose()


async def test_https_goes_through_a_tunnel_and_the_proxys_headers_are_not_the_answers(
    serve: Serve, start_proxy: StartProxy, authority: trustme.CA, trusted: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.invalid").configure_cert(context)
    server = await serve(ok(b"hello"), tls=context)
    proxy = await start_proxy(server.port)
    transport = through(f"http://127.0.0.1:{proxy.port}", ca_file=trusted)
    response, body = await fetch(transport, httpx.Request("GET", "https://a.invalid/"))
    assert (response.status_code, body) == (200, b"hello")
    assert "x-proxy" not in response.headers
    assert proxy.asked[0].startswith(b"CONNECT a.invalid:443 HTTP/1.1\r\n")
    await transport.aclose()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_socks_proxy_looks_the_name_up(serve: Serve, start_proxy: StartProxy, scheme: str) -> None:
    server = await serve(ok(b"hello"))
    proxy = await start_proxy(server.port, socks=True)
    transport = through(f"{scheme}://127.0.0.1:{proxy.port}")
    assert (await fetch(transport, httpx.Request("GET", "http://a.invalid/")))[1] == b"hello"
    assert proxy.asked == [b"name a.invalid"]
    await transport.aclose()


async def test_a_literal_address_is_judged_before_the_proxy_is_asked(serve: Serve, start_proxy: StartProxy) -> None:
    server = await serve(ok())
    proxy = await start_proxy(server.port)
    transport = through(f"http://127.0.0.1:{proxy.port}")
    for host in ("10.0.0.1", "[::1]", "169.254.169.254"):
        with pytest.raises(BlockedAddress):
            await fetch(transport, httpx.Request("GET", f"http://{host}/"))
    assert proxy.asked == []
    await transport.aclose()


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_cannot_be_reached_is_named_with_its_setting(scheme: str) -> None:
    port = free_port()
    transport = through(f"{scheme}://user:s3cret@127.0.0.1:{port}")
    with pytest.raises(httpx.ProxyError) as caught:
        await fetch(transport, httpx.Request("GET", "http://a.invalid/"))
    told = f"the proxy cannot be used: connection refused by 127.0.0.1:{port}; see FETCHER_PROXY"
    assert str(caught.value) == told
    await transport.aclose()


async def test_a_proxy_whose_name_does_not_exist_is_told(start_proxy: StartProxy) -> None:
    transport = through("http://no-such-gate.invalid:3128")
    with pytest.raises(httpx.ProxyError, match=r"^the proxy cannot be used: .*no-such-gate\.invalid"):
        await fetch(transport, httpx.Request("GET", "http://a.example/"))
    await transport.aclose()


async def test_a_client_certificate_is_shown_where_a_server_asks(
    serve: Serve, authority: trustme.CA, trusted: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    server = await serve(ok(b"hello"), tls=context)
    path = tmp_path_factory.mktemp("client") / "me.pem"
    authority.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(path)
    from tests.fetcher.engine.transport.loopback import LOOPBACK

    options = ConnectionOptions(ca_file=trusted, client_cert=str(path))
    transport = LibcurlTransport(LOOPBACK, Resolver(), TIMEOUTS, options=options)
    assert (await fetch(transport, httpx.Request("GET", server.url(scheme="https"))))[1] == b"hello"
    await transport.aclose()
