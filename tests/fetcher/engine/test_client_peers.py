"""What a server's bytes do to the client: where they lead, and how much of them it keeps."""

from __future__ import annotations

import httpx
import pytest

from fetcher.engine.client import Client, Exchange, Hop
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Target
from fetcher.engine.urls import parse_url

URL = "http://example.com/dir/a"


def client() -> Client:
    return Client(httpx.MockTransport(lambda _: httpx.Response(200)), FetchConfig())


@pytest.mark.parametrize(
    ("location", "href"),
    [
        (b"/b?q#f", "http://example.com/b?q"),
        (b"//other.example/", "http://other.example/"),
        ("caf\u00e9".encode("latin-1"), "http://example.com/dir/caf%E9"),
        ("caf\u00e9".encode(), "http://example.com/dir/caf%C3%A9"),
        ("\u00dc".encode(), "http://example.com/dir/%C3%9C"),
        ("\u4e2d\u6587?\u4e2d".encode("gbk"), "http://example.com/dir/%D6%D0%CE%C4?%D6%D0"),
        ("/\u65e5\u672c".encode("shift-jis"), "http://example.com/%93%FA%96%7B"),
        (b"/\x85\x9f", "http://example.com/%85%9F"),
        ("http://m\u00fcnchen.example/".encode(), "http://xn--mnchen-3ya.example/"),
    ],
)
def test_location_bytes_that_are_not_ascii_are_escaped_one_by_one(location: bytes, href: str) -> None:
    answer = Exchange(status=302, headers=(("Location", location.decode("latin-1")),))
    following = client().next_hop(Hop(parse_url(URL), "GET", ()), answer)

    assert following is not None
    assert following.url.href == href


async def test_long_sets_of_headers_are_not_kept() -> None:
    made = client()
    for number in range(20):
        target = Target(URL, "example.com:80", headers=(("X-Own", f"{number:05}" * 1000),))
        hop = made.first_hop(target)
        await made.send(hop, Exchange(), budget=10)

    assert (made._effective, made._ready) == ({}, {})


async def test_short_sets_of_headers_are_prepared_once() -> None:
    made = client()
    first, again = (made.first_hop(Target(URL, "example.com:80", headers=(("X-Own", "1"),))) for _ in range(2))
    await made.send(first, Exchange(), budget=10)

    assert first.headers is again.headers
    assert set(made._ready) == {first.headers}
