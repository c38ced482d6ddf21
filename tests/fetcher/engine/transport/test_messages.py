"""To whoever looks at them, messages that were cheap to build are httpx's own."""

from __future__ import annotations

import httpx
import pytest

from fetcher.engine.transport.head import parse_head
from fetcher.engine.transport.messages import Answer, PreparedRequest, response_fields
from fetcher.engine.urls import parse_url

HEADERS = ((b"User-Agent", b"trawl"), (b"X-Text", "ä".encode("latin-1")))


@pytest.mark.parametrize("url", ["http://a.example/", "https://a.example:8443/p?q=1", "http://[::1]:81/%C3%A4"])
@pytest.mark.parametrize(("method", "content"), [("GET", None), ("POST", b"body"), ("PUT", b"")])
def test_a_prepared_request_is_the_one_that_httpx_would_build(url: str, method: str, content: bytes | None) -> None:
    usual = httpx.Request(method, url, headers=list(HEADERS), content=content)
    made = PreparedRequest(method, parse_url(url), HEADERS, content, {})
    assert (made.method, made.url) == (usual.method, usual.url)
    assert made.headers.raw == usual.headers.raw
    assert made.read() == usual.read()
    assert made.content == usual.content


async def test_any_transport_can_send_one() -> None:
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers["host"], request.content))
        return httpx.Response(200)

    made = PreparedRequest("POST", parse_url("http://a.example/x"), HEADERS, b"body", {})
    await httpx.MockTransport(handler).handle_async_request(made)
    assert seen == [("http://a.example/x", "a.example", b"body")]


def test_an_answer_is_the_response_that_httpx_would_build() -> None:
    head = parse_head([b"HTTP/1.1 200 Fine\r\n", b"X-One: 1\r\n", b"x-one: 2\r\n"])
    made = Answer(head, httpx.ByteStream(b"body"))
    usual = httpx.Response(200, headers=[(b"X-One", b"1"), (b"x-one", b"2")], extensions={"http_version": b"HTTP/1.1"})
    assert made.headers == usual.headers
    assert made.headers.get_list("X-One") == ["1", "2"]
    assert (made.status_code, made.reason_phrase, made.http_version) == (200, "Fine", "HTTP/1.1")
    assert response_fields(made) == response_fields(usual) == (("X-One", "1"), ("x-one", "2"))


async def test_its_body_is_read_as_of_any_response() -> None:
    made = Answer(parse_head([b"HTTP/1.1 200 OK\r\n"]), httpx.ByteStream(b"body"))
    assert await made.aread() == b"body"
