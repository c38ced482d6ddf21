"""Addresses are judged when the connection opens, and a bad one delays the good one little."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable

import httpx
import pytest
import trustme

from fetcher.engine.addresses import AddressPolicy, AllowedNetwork
from fetcher.engine.errors import BlockedAddress, NameResolutionError, TlsError
from fetcher.engine.transport import WIRE, Wire
from fetcher.engine.transport.network import _interleaved
from tests.fetcher.engine.transport.loopback import (
    Handler,
    MakeTransport,
    Serve,
    Server,
    fetch,
    ok,
    open_files,
)


def get(url: str, connect: float = 5.0) -> httpx.Request:
    return httpx.Request(
        "GET", url, extensions={"timeout": {"connect": connect, "read": 5.0, "write": 5.0}, WIRE: Wire()}
    )


def answering(*answers: list[str]) -> Callable[[str], list[str]]:
    script = list(answers)
    return lambda host: script.pop(0) if len(script) > 1 else script[0]


def server_context(identity: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.configure_cert(context)
    return context


# Judging


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "a.test", "mapped.test"])
async def test_a_refused_address_is_never_connected_to(serve: Serve, make_transport: MakeTransport, host: str) -> None:
    server = await serve(ok())
    names = {"localhost": "127.0.0.1", "a.test": "127.0.0.1", "mapped.test": "::ffff:127.0.0.1"}
    transport = make_transport(AddressPolicy(), lambda name: [names[name]])
    with pytest.raises(BlockedAddress, match=r"loopback.*--allow-network 127\.0\.0\.1/32"):
        await fetch(transport, get(server.url(host=host)))
    assert server.accepted == 0


async def test_a_name_that_changes_its_answer_is_judged_on_the_connection_that_uses_it(
    serve: Serve, make_transport: MakeTransport
) -> None:
    allowed, refused = await serve(ok()), await serve(ok())
    policy = AddressPolicy((AllowedNetwork.parse(f"127.0.0.1:{allowed.port}"),))
    transport = make_transport(policy, answering(["127.0.0.1"], ["127.0.0.2"]), ttl=0)
    await fetch(transport, get(allowed.url(host="rebinding.test")))
    for server in (allowed, refused):
        server_url = f"http://rebinding.test:{server.port}/again"
        if server is allowed:
            allowed.writers[0].close()
            await asyncio.sleep(0.01)
        with pytest.raises(BlockedAddress, match=r"rebinding\.test: 127\.0\.0\.2 is a loopback address"):
            await fetch(transport, get(server_url))
    assert (allowed.accepted, refused.accepted) == (1, 0)


async def test_of_several_answers_only_the_allowed_ones_are_tried(serve: Serve, make_transport: MakeTransport) -> None:
    server = await serve(ok())
    policy = AddressPolicy((AllowedNetwork.parse("127.0.0.1"),))
    transport = make_transport(policy, answering(["10.0.0.1", "127.0.0.2", "127.0.0.1"]))
    request = get(server.url(host="a.test"))
    await fetch(transport, request)
    assert request.extensions[WIRE].address == f"127.0.0.1:{server.port}"


async def test_when_every_answer_is_refused_the_text_says_why(make_transport: MakeTransport) -> None:
    transport = make_transport(AddressPolicy(), answering(["10.0.0.1", "fe80::1%2"]))
    with pytest.raises(BlockedAddress, match=r"a\.test: 10\.0\.0\.1 is a private .*; fe80::1%2 is a link-local"):
        await fetch(transport, get("http://a.test/"))


# Names


async def test_the_host_header_stays_the_name(serve: Serve, make_transport: MakeTransport) -> None:
    server = await serve(ok())
    request = get(server.url(host="a.test"))
    await fetch(make_transport(lookup=answering(["127.0.0.1"])), request)
    assert f"Host: a.test:{server.port}\r\n".encode() in server.requests[0]
    assert request.extensions[WIRE].dns is not None


async def test_a_name_that_does_not_exist_is_told(make_transport: MakeTransport) -> None:
    def lookup(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NameResolutionError, match=r"the name a\.test does not exist") as caught:
        await fetch(make_transport(lookup=lookup), get("http://a.test/"))
    assert caught.value.permanent


async def test_a_hung_look_up_is_a_connect_timeout(make_transport: MakeTransport) -> None:
    release = threading.Event()

    def lookup(host: str) -> list[str]:
        release.wait(30)
        return ["127.0.0.1"]

    request = get("http://hung.test/", connect=0.05)  # counted from a little before the look-up begins
    with pytest.raises(httpx.ConnectTimeout, match=r"hung\.test"):
        await fetch(make_transport(lookup=lookup), request)
    release.set()
    assert request.extensions[WIRE].dns >= 0.03


# Connecting


async def test_a_refused_connection_is_told(make_transport: MakeTransport, free_port: int) -> None:
    with pytest.raises(httpx.ConnectError, match=rf"^connection refused by 127\.0\.0\.1:{free_port}$"):
        await fetch(make_transport(), get(f"http://127.0.0.1:{free_port}/"))


async def test_the_next_address_is_tried_when_one_refuses(serve: Serve, make_transport: MakeTransport) -> None:
    server = await serve(ok())
    lookup = answering(["127.0.0.2", "::1", "127.0.0.1"])
    request = get(server.url(host="a.test"))
    assert (await fetch(make_transport(lookup=lookup), request))[1] == b"hello"
    assert request.extensions[WIRE].address == f"127.0.0.1:{server.port}"


async def test_when_every_address_refuses_all_are_told(
    make_transport: MakeTransport, free_port: int, kind: str
) -> None:
    transport = make_transport(lookup=answering(["127.0.0.1", "127.0.0.2"]))
    one, two = f"127.0.0.1:{free_port}", f"127.0.0.2:{free_port}"
    told = {
        "httpx": f"connection refused by {one}; connection refused by {two}",
        "libcurl": f"connection refused by {two}, the last of 2 addresses (before it {one})",
    }
    with pytest.raises(httpx.ConnectError) as caught:
        await fetch(transport, get(f"http://a.test:{free_port}/"))
    assert str(caught.value) == told[kind]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def black_hole():
    """A port of 127.0.0.2 where nobody accepts and the queue is full: to connect there takes for ever."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.2", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for filler in fillers:
            filler.close()


async def test_an_address_that_never_answers_is_a_connect_timeout(
    make_transport: MakeTransport, black_hole: int
) -> None:
    transport = make_transport()
    before = open_files()
    with pytest.raises(httpx.ConnectTimeout, match=r"no connection to 127\.0\.0\.2 within 0\.05 s"):
        await fetch(transport, get(f"http://127.0.0.2:{black_hole}/", connect=0.05))
    assert open_files() <= before


async def test_an_address_that_never_answers_does_not_eat_the_time_of_the_next(
    make_transport: MakeTransport, black_hole: int
) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok())
        writer.close()

    good = await asyncio.start_server(connected, "127.0.0.1", black_hole)
    transport = make_transport(lookup=answering(["127.0.0.2", "127.0.0.1"]))
    request = get(f"http://a.test:{black_hole}/", connect=5)
    async with asyncio.timeout(2):
        assert (await fetch(transport, request))[1] == b"hello"
    assert 0.2 < request.extensions[WIRE].connect < 2
    good.close()


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        (["::1", "::2", "1.1.1.1", "1.1.1.2"], ["::1", "1.1.1.1", "::2", "1.1.1.2"]),
        (["1.1.1.1", "1.1.1.2", "::1"], ["1.1.1.1", "::1", "1.1.1.2"]),
        (["1.1.1.1"], ["1.1.1.1"]),
    ],
)
def test_families_alternate_from_the_first(addresses: list[str], order: list[str]) -> None:
    assert _interleaved(addresses) == order


# TLS


async def test_tls_names_the_host_and_is_timed(
    serve: Serve, make_transport: MakeTransport, authority: trustme.CA, trusted: str
) -> None:
    asked: list[str | None] = []
    context = server_context(authority.issue_cert("a.test"))
    context.sni_callback = lambda sock, name, ctx: asked.append(name)  # type: ignore[assignment, misc]
    server = await serve(ok(), tls=context)
    transport = make_transport(lookup=answering(["127.0.0.1"]), ca_file=trusted)
    first, second = get(server.url(host="a.test", scheme="https")), get(server.url(host="a.test", scheme="https"))
    assert (await fetch(transport, first))[1] == b"hello"
    assert (await fetch(transport, second))[1] == b"hello"
    assert asked == ["a.test"]
    assert (first.extensions[WIRE].tls > 0, second.extensions[WIRE].reused) == (True, True)


async def test_a_certificate_for_an_address_is_accepted(
    serve: Serve, make_transport: MakeTransport, authority: trustme.CA, trusted: str
) -> None:
    server = await serve(ok(), tls=server_context(authority.issue_cert("127.0.0.1")))
    assert (await fetch(make_transport(ca_file=trusted), get(server.url(scheme="https"))))[1] == b"hello"


async def test_a_certificate_for_another_host_is_refused_for_good(
    serve: Serve, make_transport: MakeTransport, authority: trustme.CA, trusted: str
) -> None:
    server = await serve(ok(), tls=server_context(authority.issue_cert("other.test")))
    transport = make_transport(lookup=answering(["127.0.0.1"]), ca_file=trusted)
    before = open_files()
    with pytest.raises(TlsError, match=r"^certificate verify failed: Hostname mismatch.*a\.test") as caught:
        await fetch(transport, get(server.url(host="a.test", scheme="https")))
    assert caught.value.permanent
    assert server.requests == []
    await asyncio.sleep(0.01)
    assert open_files() <= before


async def test_a_certificate_of_an_unknown_authority_is_refused_for_good(
    serve: Serve, make_transport: MakeTransport, authority: trustme.CA
) -> None:
    server = await serve(ok(), tls=server_context(authority.issue_cert("127.0.0.1")))
    with pytest.raises(TlsError, match=r"^certificate verify failed: .*issuer") as caught:
        await fetch(make_transport(), get(server.url(scheme="https")))
    assert caught.value.permanent


async def test_a_port_without_tls_is_told_and_may_be_tried_again(serve: Serve, make_transport: MakeTransport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        return handle

    server = await serve(handler=handler)
    with pytest.raises(TlsError, match="does not speak TLS at this port") as caught:
        await fetch(make_transport(), get(server.url(scheme="https")))
    assert not caught.value.permanent


async def test_a_handshake_that_is_broken_off_is_told(serve: Serve, make_transport: MakeTransport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)

        return handle

    server = await serve(handler=handler)
    with pytest.raises(TlsError, match=r"127\.0\.0\.1 closed the connection during the TLS handshake") as caught:
        await fetch(make_transport(), get(server.url(scheme="https")))
    assert not caught.value.permanent


async def test_a_handshake_that_never_ends_is_a_connect_timeout(serve: Serve, make_transport: MakeTransport) -> None:
    def handler(server: Server) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        return handle

    server = await serve(handler=handler)
    transport = make_transport()
    before = open_files()
    request = get(server.url(scheme="https"), connect=0.05)
    with pytest.raises(httpx.ConnectTimeout):
        await fetch(transport, request)
    assert request.extensions[WIRE].tls > 0
    await asyncio.sleep(0.01)
    assert open_files() <= before + 1


async def test_the_environment_does_not_choose_the_authorities(
    serve: Serve,
    make_transport: MakeTransport,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    server = await serve(ok(), tls=server_context(authority.issue_cert("127.0.0.1")))
    with pytest.raises(TlsError):
        await fetch(make_transport(), get(server.url(scheme="https")))
