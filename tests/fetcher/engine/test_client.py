"""One request and its answer: which headers go where, where redirects lead, what bounds the body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from fetcher.engine.client import Client, Exchange, Hop
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind, FetchError, InvalidUrl, TooLarge, TooManyRedirects
from fetcher.engine.references import EnvReference
from fetcher.engine.request_headers import effective_headers
from fetcher.engine.types import Headers, Target, Validators
from fetcher.engine.urls import parse_url

URL = "http://example.com/dir/a"


class Chunks(httpx.AsyncByteStream):
    """A body that counts what was taken of it."""

    def __init__(self, *chunks: bytes, pause: float = 0, repeat: int = 1) -> None:
        self.chunks = chunks
        self.pause = pause
        self.repeat = repeat
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.repeat):
            for chunk in self.chunks:
                await asyncio.sleep(self.pause)
                self.taken += len(chunk)
                yield chunk

    async def aclose(self) -> None:
        self.closed = True


Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler = lambda _: httpx.Response(200), **options: Any) -> Client:
    return Client(httpx.MockTransport(handler), FetchConfig(**options))


def hop(url: str = URL, *, method: str = "GET", headers: Headers = (), **other: Any) -> Hop:
    return Hop(parse_url(url), method, headers, **other)


def answer(status: int, location: str | None = None) -> Exchange:
    return Exchange(status=status, headers=() if location is None else (("Location", location),))


async def sent(first: Hop, **options: Any) -> httpx.Request:
    """Send a hop and return the request as the transport saw it."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=Chunks())

    await client(handler, **options).send(first, Exchange(), budget=5)
    return seen[0]


async def exchanged(
    response: httpx.Response, *, first: Hop | None = None, budget: float = 5, **options: Any
) -> Exchange:
    exchange = Exchange()
    await client(lambda _: response, **options).send(first or hop(), exchange, budget=budget)
    return exchange


class TestHeaders:
    def test_a_later_layer_replaces_every_value_of_a_name(self) -> None:
        layers = effective_headers(
            (("Accept", "*/*"), ("A", "1")), (("accept", "x"), ("ACCEPT", "y")), (("B", "2"), ("a", "3"))
        )

        assert layers == (("accept", "x"), ("ACCEPT", "y"), ("B", "2"), ("a", "3"))

    def test_a_target_goes_before_the_configuration_before_the_defaults(self) -> None:
        made = client(user_agent="ua", headers=(("X", "run"), ("Accept", "run/*"))).first_hop(
            Target(URL, "example.com:80", headers=(("x", "own"), ("user-agent", "mine")))
        )

        assert {name.lower(): value for name, value in made.headers if name.lower() != "accept-encoding"} == {
            "accept": "run/*",
            "x": "own",
            "user-agent": "mine",
        }

    def test_guarded_headers_go_to_the_named_hosts_only(self) -> None:
        guarded = client(
            headers=(("X-Token", "t"), ("A", "1")),
            guarded_headers=frozenset({"x-token"}),
            headers_hosts=("named.example",),
        )
        urls = ("https://named.example/", "http://other.example/", "https://named.example/2", "http://other.example/2")
        sent = [guarded.first_hop(Target(url, "")).headers for url in urls]

        assert [dict(headers).get("X-Token") for headers in sent] == ["t", None, "t", None]
        assert {dict(headers)["A"] for headers in sent} == {"1"}

    def test_guarded_headers_follow_no_redirect_to_another_origin(self) -> None:
        guarded = client(headers=(("X-Plain", "t"),), guarded_headers=frozenset({"x-plain"}), headers_hosts=("*",))
        first = guarded.first_hop(Target("https://a.example/", ""))
        near, far = (guarded.next_hop(first, answer(301, to)) for to in ("/b", "https://b.example/"))

        assert near is not None
        assert far is not None
        assert ("X-Plain", "t") in near.headers
        assert ("X-Plain", "t") not in far.headers

    def test_a_target_without_a_valid_url_is_refused(self) -> None:
        with pytest.raises(InvalidUrl):
            client().first_hop(Target("ftp://example.com/", "example.com:21"))

    async def test_headers_arrive_as_configured_and_nothing_is_added(self) -> None:
        request = await sent(hop(headers=(("X-One", "1"), ("X-One", "2"))))

        assert request.headers.raw == [(b"Host", b"example.com"), (b"X-One", b"1"), (b"X-One", b"2")]

    async def test_obs_text_is_sent_as_latin_1(self) -> None:
        assert (b"X", b"caf\xe9") in (await sent(hop(headers=(("X", "caf\u00e9"),)))).headers.raw

    async def test_a_body_is_sent_with_its_length(self) -> None:
        request = await sent(hop(method="POST", body=b"body"))

        assert (await request.aread(), request.headers["content-length"]) == (b"body", "4")

    async def test_the_timeouts_go_along(self) -> None:
        request = await sent(hop(), connect_timeout=1, read_timeout=2)

        assert request.extensions["timeout"] == {"connect": 1, "read": 2, "write": 2, "pool": 1}


class TestEnvironment:
    async def test_a_value_is_read_when_it_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = hop(headers=(("Authorization", EnvReference("TRAWL_TOKEN")),))
        monkeypatch.setenv("TRAWL_TOKEN", "Bearer s3cret")

        assert (await sent(first)).headers["authorization"] == "Bearer s3cret"

    async def test_a_missing_variable_fails_the_attempt_and_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TRAWL_TOKEN", raising=False)

        with pytest.raises(FetchError, match="needs the environment variable TRAWL_TOKEN, which is not set") as caught:
            await sent(hop(headers=(("Authorization", EnvReference("TRAWL_TOKEN")),)))
        assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INTERNAL, False)

    async def test_a_value_that_cannot_be_sent_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAWL_TOKEN", "s3cret\r\nX: y")

        with pytest.raises(FetchError, match="TRAWL_TOKEN") as caught:
            await sent(hop(headers=(("Authorization", EnvReference("TRAWL_TOKEN")),)))
        assert "s3cret" not in caught.value.detail


class TestRedirects:
    @pytest.mark.parametrize(
        ("status", "method", "expected"),
        [
            (301, "GET", "GET"), (301, "HEAD", "HEAD"), (301, "POST", "GET"), (301, "PUT", "PUT"),
            (301, "DELETE", "DELETE"),
            (302, "GET", "GET"), (302, "HEAD", "HEAD"), (302, "POST", "GET"), (302, "PUT", "PUT"),
            (302, "PATCH", "PATCH"),
            (303, "GET", "GET"), (303, "HEAD", "HEAD"), (303, "POST", "GET"), (303, "PUT", "GET"),
            (303, "DELETE", "GET"),
            (307, "GET", "GET"), (307, "HEAD", "HEAD"), (307, "POST", "POST"), (307, "PUT", "PUT"),
            (308, "GET", "GET"), (308, "HEAD", "HEAD"), (308, "POST", "POST"), (308, "PUT", "PUT"),
        ],
    )  # fmt: skip
    def test_the_method_changes_as_the_standard_says(self, status: int, method: str, expected: str) -> None:
        body = b"x" if method in ("POST", "PUT", "PATCH") else None
        headers = (("Content-Type", "text/plain"), ("X", "1"))
        following = client().next_hop(hop(method=method, body=body, headers=headers), answer(status, "/b"))

        assert following is not None
        assert following.method == expected
        rewritten = (method, expected) in {("POST", "GET"), ("PUT", "GET"), ("DELETE", "GET")} or (status, method) == (
            303,
            "GET",
        )
        assert following.body == (None if rewritten else body)
        assert following.headers == (headers[1:] if rewritten else headers)

    @pytest.mark.parametrize("status", [200, 201, 204, 300, 304, 305, 306, 404])
    def test_other_statuses_lead_nowhere(self, status: int) -> None:
        assert client().next_hop(hop(), answer(status, "/b")) is None

    @pytest.mark.parametrize("location", [None, ""])
    def test_without_a_location_the_answer_is_the_last(self, location: str | None) -> None:
        assert client().next_hop(hop(), answer(302, location)) is None

    def test_userinfo_in_a_location_is_refused(self) -> None:
        with pytest.raises(InvalidUrl):
            client().next_hop(hop(), answer(302, "http://a:b@example.com/"))

    def test_hops_are_counted(self) -> None:
        made = client(max_redirects=2)
        second = made.next_hop(hop(), answer(302, "/b"))
        assert second is not None
        third = made.next_hop(second, answer(302, "/c"))
        assert third is not None

        with pytest.raises(TooManyRedirects, match="more than 2 redirects"):
            made.next_hop(third, answer(302, "/d"))

    def test_with_none_allowed_a_redirect_is_the_answer(self) -> None:
        assert client(max_redirects=0).next_hop(hop(), answer(302, "/b")) is None


class TestSecrets:
    HEADERS = (
        ("Authorization", "a"), ("COOKIE", "b"), ("Proxy-Authorization", "c"), ("X-Api-Key", "d"),
        ("X-Color", EnvReference("E")), ("X-Plain", "f"),
    )  # fmt: skip

    @pytest.mark.parametrize(
        "location", ["https://example.com/", "http://example.com:8080/", "http://www.example.com/", "//other.example/"]
    )
    def test_another_origin_gets_none_of_them(self, location: str) -> None:
        following = client().next_hop(hop(headers=self.HEADERS), answer(307, location))

        assert following is not None
        assert following.headers == (("X-Plain", "f"),)

    @pytest.mark.parametrize("location", ["/b", "http://example.com:80/b", "//EXAMPLE.com/"])
    def test_the_same_origin_gets_all(self, location: str) -> None:
        following = client().next_hop(hop(headers=self.HEADERS), answer(307, location))

        assert following is not None
        assert following.headers == self.HEADERS

    def test_they_do_not_come_back_with_the_origin(self) -> None:
        away = client().next_hop(hop(headers=self.HEADERS), answer(302, "http://other.example/"))
        assert away is not None
        back = client().next_hop(away, answer(302, URL))

        assert back is not None
        assert back.headers == (("X-Plain", "f"),)

    def test_names_of_ones_own_count(self) -> None:
        following = client(secret_headers=frozenset({"x-plain"})).next_hop(
            hop(headers=(("X-Plain", "f"), ("X-Other", "c"))), answer(302, "http://other.example/")
        )

        assert following is not None
        assert following.headers == (("X-Other", "c"),)


class TestConditional:
    VALIDATORS = Validators('"tag"', "Sun, 06 Nov 1994 08:49:37 GMT", URL)

    async def test_validators_go_to_the_url_that_gave_them(self) -> None:
        request = await sent(hop(validators=self.VALIDATORS))

        assert request.headers["if-none-match"] == '"tag"'
        assert request.headers["if-modified-since"] == "Sun, 06 Nov 1994 08:49:37 GMT"

    @pytest.mark.parametrize("url", [URL + "b", "https://example.com/dir/a", "http://other.example/dir/a"])
    async def test_and_to_no_other(self, url: str) -> None:
        assert "if-none-match" not in (await sent(hop(url, validators=self.VALIDATORS))).headers

    @pytest.mark.parametrize(("method", "sent_along"), [("HEAD", True), ("POST", False), ("OPTIONS", False)])
    async def test_they_go_only_with_methods_that_read(self, method: str, sent_along: bool) -> None:
        request = await sent(hop(method=method, validators=self.VALIDATORS))

        assert ("if-none-match" in request.headers) is sent_along

    async def test_they_go_to_it_at_the_end_of_a_redirect(self) -> None:
        following = client().next_hop(hop("http://old.example/", validators=self.VALIDATORS), answer(301, URL))
        assert following is not None

        assert (await sent(following)).headers["if-none-match"] == '"tag"'

    async def test_conditions_of_ones_own_go_before(self) -> None:
        request = await sent(hop(validators=self.VALIDATORS, headers=(("If-None-Match", '"own"'),)))

        assert request.headers.get_list("if-none-match") == ['"own"']
        assert "if-modified-since" not in request.headers

    @pytest.mark.parametrize(
        ("first", "conditional"),
        [
            (hop(), False),
            (hop(validators=VALIDATORS), True),
            (hop(headers=(("if-none-match", '"x"'),)), True),
            (hop(URL + "b", validators=VALIDATORS), False),
            (hop(validators=Validators("", "", URL)), False),
        ],
    )
    async def test_it_is_known_whether_a_request_was_conditional(self, first: Hop, conditional: bool) -> None:
        exchange = await exchanged(httpx.Response(200, stream=Chunks()), first=first)

        assert exchange.conditional is conditional


class TestBody:
    async def test_a_body_is_read_and_decoded(self) -> None:
        packed = httpx.Response(
            200, headers={"Content-Encoding": "deflate"}, stream=Chunks(b"x\x9cKLJ\x06\x00\x02M\x01'")
        )
        exchange = await exchanged(packed)

        assert (exchange.status, exchange.body) == (200, b"abc")
        assert exchange.first_byte is not None

    async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read(self) -> None:
        stream = Chunks(b"x" * 11)
        with pytest.raises(TooLarge) as caught:
            await exchanged(httpx.Response(200, headers={"Content-Length": "11"}, stream=stream), max_body=10)

        assert (stream.taken, stream.closed, caught.value.answered) == (0, True, True)

    async def test_an_undeclared_one_is_read_no_further_than_the_limit(self) -> None:
        stream = Chunks(b"x" * 4, repeat=1000)
        with pytest.raises(TooLarge):
            await exchanged(httpx.Response(200, stream=stream), max_body=10)

        assert (stream.taken, stream.closed) == (12, True)

    async def test_a_body_of_just_the_limit_is_fine(self) -> None:
        exchange = await exchanged(
            httpx.Response(200, headers={"Content-Length": "10"}, stream=Chunks(b"x" * 10)), max_body=10
        )

        assert exchange.body == b"x" * 10

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    @pytest.mark.parametrize("headers", [{"Content-Length": "9999"}, {"Content-Encoding": "gzip"}])
    async def test_an_answer_that_has_no_body_may_describe_one(
        self, method: str, status: int, headers: dict[str, str]
    ) -> None:
        response = httpx.Response(status, headers=headers, stream=Chunks())

        assert (await exchanged(response, first=hop(method=method), max_body=10)).body == b""

    async def test_a_redirects_short_body_is_read_to_keep_the_connection(self) -> None:
        stream = Chunks(b"x" * 100)
        exchange = await exchanged(httpx.Response(302, headers={"Location": "/b"}, stream=stream), max_body=10)

        assert (exchange.body, stream.taken, stream.closed) == (None, 100, True)

    async def test_a_redirects_long_body_is_cut_off(self) -> None:
        stream = Chunks(b"x" * 2**14, repeat=1000)
        await exchanged(httpx.Response(302, headers={"Location": "/b"}, stream=stream))

        assert stream.taken <= 2**16 + 2**14
        assert stream.closed

    @pytest.mark.parametrize(
        ("headers", "options"), [({}, {}), ({"Location": ""}, {}), ({"Location": "/b"}, {"max_redirects": 0})]
    )
    async def test_a_redirect_that_is_not_followed_is_an_answer(
        self, headers: dict[str, str], options: dict[str, int]
    ) -> None:
        assert (await exchanged(httpx.Response(302, headers=headers, stream=Chunks(b"x")), **options)).body == b"x"


class TestDeadline:
    async def test_a_body_that_drips_for_ever_is_cut_off(self) -> None:
        stream = Chunks(b"x", pause=0.01, repeat=10_000)
        exchange = Exchange()
        with pytest.raises(FetchError, match=r"the answer was not complete when the time .* was up") as caught:
            await client(lambda _: httpx.Response(200, stream=stream)).send(hop(), exchange, budget=0.05)

        assert (caught.value.kind, caught.value.retryable, caught.value.answered) == (ErrorKind.TIMEOUT, True, True)
        assert (exchange.status, exchange.body, stream.closed) == (200, None, True)

    async def test_so_is_a_server_that_says_nothing(self) -> None:
        async def silent(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError

        made = Client(httpx.MockTransport(silent), FetchConfig())
        with pytest.raises(FetchError, match="no answer when the time") as caught:
            await made.send(hop(), Exchange(), budget=0.02)

        assert caught.value.answered is False

    async def test_a_cancellation_is_not_a_failure(self) -> None:
        stream = Chunks(b"x", pause=0.01, repeat=10_000)
        sending = asyncio.create_task(
            client(lambda _: httpx.Response(200, stream=stream)).send(hop(), Exchange(), budget=5)
        )
        await asyncio.sleep(0.03)
        sending.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sending
        assert stream.closed


class TestFailures:
    async def test_what_a_transport_raises_becomes_a_kind(self) -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        with pytest.raises(FetchError) as caught:
            await client(refuse).send(hop(), Exchange(), budget=5)

        assert (caught.value.kind, caught.value.detail, caught.value.answered) == (ErrorKind.CONNECT, "refused", False)

    async def test_a_failure_in_the_body_was_an_answer(self) -> None:
        class Broken(Chunks):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"x"
                raise httpx.ReadError("reset")

        with pytest.raises(FetchError) as caught:
            await exchanged(httpx.Response(200, stream=Broken()))

        assert (caught.value.kind, caught.value.answered) == (ErrorKind.PROTOCOL, True)
