"""What libcurl's handles are told, and how little is kept of what they did."""

from __future__ import annotations

import httpx
import pytest

from fetcher.engine.transport import PreparedRequest
from fetcher.engine.transport.curl_options import exact_target
from fetcher.engine.transport.libcurl import LibcurlTransport
from fetcher.engine.transport.resolver import Resolver
from fetcher.engine.urls import parse_url
from tests.fetcher.engine.transport.loopback import Serve, fetch, ok


@pytest.fixture(params=["libcurl", "h11"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


only_libcurl = pytest.mark.parametrize("kind", ["libcurl"], indirect=True)

PATHS = [
    "/a%2fb",
    "/a%2Fb",
    "/%e4%BD%a0?x=%2f",
    "/a?%2f",
    "/?",
    "/a%2",
    "/%zz",
    "/a%%2f",
    "//a//b",
    "/a;b=%3b",
    "/~a'()*!|",
]


@pytest.mark.parametrize("path", PATHS)
async def test_the_path_and_the_query_are_sent_as_they_were_given(
    serve: Serve, transport: httpx.AsyncBaseTransport, path: str
) -> None:
    server = await serve(ok())
    for _ in range(2):
        await fetch(transport, PreparedRequest("GET", parse_url(server.url(path)), (), None, {}))
        await fetch(transport, PreparedRequest("GET", parse_url(server.url("/plain")), (), None, {}))
    lines = [head.partition(b"\r\n")[0].decode() for head in server.requests]
    assert lines == [f"GET {path} HTTP/1.1", "GET /plain HTTP/1.1"] * 2


@pytest.mark.parametrize(
    ("url", "absolute", "target"),
    [
        ("http://a.example/A%2FB", False, None),
        ("http://a.example/a%2fb?c", False, "/a%2fb?c"),
        ("https://[::1]:81/a%2fb?c", False, "/a%2fb?c"),
        ("http://a.example/a%2fb", True, "http://a.example/a%2fb"),
    ],
)
def test_a_target_is_given_where_libcurl_would_change_it(url: str, absolute: bool, target: str | None) -> None:
    assert exact_target(url, absolute=absolute) == target


@only_libcurl
async def test_a_handle_keeps_nothing_of_its_last_request(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(ok(b"x" * 1000, b"X-Large: " + b"y" * 50_000))
    await fetch(transport, httpx.Request("GET", server.url()))
    ((spare,),) = transport._spare.values()
    assert (spare.order, spare.head, spare.failure, spare.chunks) == (None, None, None, [])


@only_libcurl
async def test_handles_of_few_methods_only_are_kept(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(ok())
    for number in range(60):
        await fetch(transport, httpx.Request(f"METHOD{number}", server.url()))
    assert len(transport._spare) <= 32


@only_libcurl
async def test_long_headers_are_not_kept(serve: Serve, transport: LibcurlTransport) -> None:
    server = await serve(ok())
    for number in range(20):
        headers = ((b"If-None-Match", b"%05d" % number * 1000),)
        await fetch(transport, PreparedRequest("GET", parse_url(server.url()), headers, None, {}))
    assert transport._lines == {}


async def test_of_a_name_with_thousands_of_addresses_few_are_kept() -> None:
    resolver = Resolver(lambda host: [f"10.0.{number // 250}.{number % 250}" for number in range(5000)])
    assert len(await resolver.resolve("many.example")) == 64
    resolver.close()
