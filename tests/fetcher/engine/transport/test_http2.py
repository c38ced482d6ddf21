"""HTTP/2 where it is asked for and offered, from a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
import trustme

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.runner import fetch_all
from fetcher.engine.transport import WIRE, ConnectionOptions, Wire, open_transport
from fetcher.engine.types import Target
from tests.fetcher.engine.transport.loopback import fetch
from tests.support.nginx import Nginx, NginxMissing, running_nginx
from tests.support.processes import unavailable

CONFIG = FetchConfig(concurrency=50, per_host=50, allowed_networks=(AllowedNetwork.parse("127.0.0.0/8"),))


@pytest.fixture(scope="module")
def secure(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An nginx that speaks HTTP/2 and HTTP/1.1 over TLS."""
    folder = tmp_path_factory.mktemp("nginx")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    try:
        with running_nginx(folder, addresses=1, certificate=(certificate, key)) as running:
            assert running.secure is not None
            yield running.secure
    except NginxMissing as exc:
        unavailable(str(exc))


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
async def test_is_used_where_it_is_asked_for(secure: Nginx, trusted: str, http2: bool, version: str) -> None:
    transport = open_transport(CONFIG, ConnectionOptions(http2=http2, ca_file=trusted))
    request = httpx.Request("GET", secure.url("/1k"), extensions={WIRE: Wire()})
    response, body = await fetch(transport, request)
    assert (response.status_code, len(body)) == (200, 1024)
    assert request.extensions[WIRE].http_version == version
    await transport.aclose()


async def test_is_not_asked_of_a_server_without_tls(nginx: Nginx) -> None:
    transport = open_transport(CONFIG, ConnectionOptions(http2=True))
    request = httpx.Request("GET", nginx.url("/1k"), extensions={WIRE: Wire()})
    await fetch(transport, request)
    assert request.extensions[WIRE].http_version == "HTTP/1.1"
    await transport.aclose()


async def test_many_requests_share_a_connection(secure: Nginx, trusted: str) -> None:
    transport = open_transport(CONFIG, ConnectionOptions(http2=True, ca_file=trusted))
    requests = [httpx.Request("GET", secure.url(f"/1k/{place}"), extensions={WIRE: Wire()}) for place in range(91)]
    await fetch(transport, requests[0])
    await asyncio.gather(*(fetch(transport, request) for request in requests[1:]))
    assert [request.extensions[WIRE].reused for request in requests] == [False, *[True] * 90]
    await transport.aclose()


async def test_a_body_is_sent_with_it(secure: Nginx, trusted: str) -> None:
    transport = open_transport(CONFIG, ConnectionOptions(http2=True, ca_file=trusted))
    request = httpx.Request("POST", secure.url("/1k"), content=b"x" * 10_000)
    assert (await fetch(transport, request))[0].status_code == 200
    await transport.aclose()


async def test_a_run_notes_the_version_of_each_attempt(secure: Nginx, trusted: str) -> None:
    host = f"127.0.0.1:{secure.port}"
    targets = [Target(secure.url(f"/1k/{place}"), host) for place in range(20)]
    options = ConnectionOptions(http2=True, ca_file=trusted)
    versions = [out.attempts[0].http_version async for out in fetch_all(targets, CONFIG, connections=options)]
    assert versions == ["HTTP/2"] * 20
