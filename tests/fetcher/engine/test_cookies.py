"""The cookies of one chain of redirects: which are kept, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.cookies import (
    MAX_COOKIE_BYTES,
    MAX_COOKIES,
    MAX_HEADER_BYTES,
    Cookie,
    collect_cookies,
    with_cookies,
)
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Outcome, Status
from fetcher.engine.urls import parse_url
from tests.fetcher.engine.test_runner import Network, fetched, fetched_one, target

SETTER = "https://www.example.com/dir/page?q=/a/b"
NOW = 1_800_000_000.0


def collected(*set_cookie: str, url: str = SETTER) -> tuple[Cookie, ...]:
    return collect_cookies((), parse_url(url), set_cookie, NOW)


def sent(cookies: tuple[Cookie, ...], url: str = SETTER, configured: str = "", now: float = NOW) -> str:
    """Return the value of Cookie in a request, or an empty string."""
    headers = ((b"Cookie", configured.encode()),) if configured else ()
    found = [value for name, value in with_cookies(headers, cookies, parse_url(url), now) if name == b"Cookie"]
    assert len(found) <= 1
    return found[0].decode("latin-1") if found else ""


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a=1", "a=1"),
        (" a = 1 ; Path=/; HttpOnly; SameSite=Lax", "a=1"),
        ('a="1 2"', 'a="1 2"'),
        ("a=b=c", "a=b=c"),
        ("a=", "a="),
        ("a", ""),
        ("=1", ""),
        ("", ""),
        (";", ""),
        ("a=1\x01", ""),
        ("caf\u00e9=\u00fc", "caf\u00e9=\u00fc"),
        ("a=1; Domain=example.com", "a=1"),
        ("a=1; Domain=.www.example.com", "a=1"),
        ("a=1; Domain=", "a=1"),
        ("a=1; Domain=other.example", ""),
        ("a=1; Domain=w.example.com", ""),
        ("a=1; Domain=sub.www.example.com", ""),
        ("a=1; Max-Age=0", ""),
        ("a=1; Max-Age=-5", ""),
        ("a=1; Max-Age=60", "a=1"),
        ("a=1; Max-Age=nonsense", "a=1"),
        ("a=1; Max-Age=" + "9" * 100, "a=1"),
        ("a=1; Expires=Thu, 01-Jan-1970 00:00:00 GMT", ""),
        ("a=1; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=60", "a=1"),
        ("a=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT", "a=1"),
        ("a=1; Expires=soon", "a=1"),
    ],
)
def test_set_cookie_is_read_as_the_standard_says(text: str, header: str) -> None:
    assert sent(collected(text)) == header


@pytest.mark.parametrize(
    ("attributes", "url", "goes"),
    [
        ("", "https://www.example.com/dir/", True),
        ("", "https://www.example.com/dir", True),
        ("", "https://www.example.com/directory", False),
        ("", "https://www.example.com/", False),
        ("; Path=/", "https://www.example.com/", True),
        ("; Path=relative", "https://www.example.com/dir/x", True),
        ("; Path=/a", "https://www.example.com/a/b", True),
        ("; Path=/a/", "https://www.example.com/a", False),
        ("; Path=/", "http://www.example.com/", True),
        ("; Path=/", "https://www.example.com:8443/", True),
        ("; Path=/; Secure", "https://www.example.com/", True),
        ("; Path=/; Secure", "http://www.example.com/", False),
        ("; Path=/; Domain=example.com", "https://example.com/", False),
        ("; Path=/; Domain=example.com", "https://api.example.com/", False),
        ("; Path=/", "https://sub.www.example.com/", False),
        ("; Path=/; Domain=com", "https://other.com/", False),
    ],
)
def test_cookie_goes_only_to_its_host_and_path(attributes: str, url: str, goes: bool) -> None:
    assert sent(collected(f"a=1{attributes}"), url) == ("a=1" if goes else "")


def test_secure_cookie_of_a_plain_connection_is_ignored() -> None:
    assert collected("a=1; Secure", url="http://www.example.com/") == ()


def test_later_cookie_replaces_or_removes_the_earlier_one() -> None:
    assert sent(collected("a=1", "b=2", "a=3")) == "b=2; a=3"
    assert sent(collected("a=1", "b=2", "a=; Max-Age=0")) == "b=2"


def test_longer_paths_are_sent_first() -> None:
    assert sent(collected("a=1; Path=/", "a=2; Path=/dir", "b=3; Path=/")) == "a=2; a=1; b=3"


def test_expired_cookie_is_not_sent() -> None:
    assert sent(collected("a=1; Max-Age=5"), now=NOW + 4) == "a=1"
    assert sent(collected("a=1; Max-Age=5"), now=NOW + 5) == ""


def test_configured_cookies_come_first_and_win() -> None:
    assert sent(collected("a=1", "b=2"), configured="b=own; c=3") == "b=own; c=3; a=1"


def test_other_headers_stay_as_they_are() -> None:
    headers = ((b"X", b"1"), (b"cookie", b"a=own"), (b"Y", b"2"))

    assert with_cookies(headers, collected("a=1"), parse_url(SETTER), NOW) is headers
    assert with_cookies(headers, collected("b=1"), parse_url(SETTER), NOW) == (
        (b"X", b"1"), (b"Y", b"2"), (b"Cookie", b"a=own; b=1"),
    )  # fmt: skip


def test_number_and_size_of_cookies_are_bounded() -> None:
    assert len(collected(*(f"a{number}=1" for number in range(10_000)))) == MAX_COOKIES
    assert len(collected("a=" + "x" * (MAX_COOKIE_BYTES - 2), "b=" + "x" * MAX_COOKIE_BYTES)) == 1
    many = collected(*(f"a{number}=" + "x" * 1000 for number in range(MAX_COOKIES)))
    assert MAX_HEADER_BYTES - 1100 < len(sent(many)) <= MAX_HEADER_BYTES


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=10))
def test_any_set_cookie_gives_a_header_that_can_be_sent(values: list[str]) -> None:
    header = sent(collected(*values, *(f"a=1; Expires={value}" for value in values)))

    assert all(character == "\t" or (" " <= character <= "\xff" and character != "\x7f") for character in header)


def redirecting(wanted: Callable[[str], bool], **headers: str) -> Any:
    """Answer with a redirect to the same URL and a cookie, until a request's Cookie is as wanted."""

    async def script(request: httpx.Request) -> httpx.Response:
        if wanted(request.headers.get("Cookie", "")):
            return httpx.Response(200, content=b"in")
        return httpx.Response(302, headers={"Location": str(request.url), "Set-Cookie": "sid=1", **headers})

    return script


class TestAChain:
    async def test_redirect_to_itself_that_sets_the_cookie_it_wants_succeeds(self) -> None:
        outcome = await fetched_one(target("http://a.example/x"), redirecting(lambda cookie: cookie == "sid=1"))

        assert (outcome.status, outcome.body, len(outcome.redirects)) == (Status.SUCCEEDED, b"in", 1)

    async def test_configured_cookie_is_sent_along(self) -> None:
        one = target("http://a.example/x", headers=(("Cookie", "own=2"),))
        outcome = await fetched_one(one, redirecting(lambda cookie: cookie == "own=2; sid=1"))

        assert outcome.status is Status.SUCCEEDED

    async def test_neither_cookie_follows_to_another_host(self) -> None:
        seen: list[tuple[str, str]] = []

        async def script(request: httpx.Request) -> httpx.Response:
            seen.append((request.url.host, request.headers.get("Cookie", "")))
            steps = {1: "http://a.example/x", 2: "http://b.example/x", 3: "http://a.example/x"}
            if location := steps.get(len(seen)):
                return httpx.Response(302, headers={"Location": location, "Set-Cookie": f"at{len(seen)}=1; Path=/"})
            return httpx.Response(200)

        await fetched_one(target("http://a.example/x", headers=(("Cookie", "own=2"),)), script)

        assert seen == [
            ("a.example", "own=2"), ("a.example", "own=2; at1=1"), ("b.example", ""), ("a.example", "at1=1; at2=1"),
        ]  # fmt: skip

    async def test_no_target_and_no_attempt_sees_the_cookies_of_another(self) -> None:
        firsts: dict[str, list[str]] = {}

        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.path != "/end":
                firsts.setdefault(str(request.url), []).append(request.headers.get("Cookie", ""))
                return httpx.Response(302, headers={"Location": "/end", "Set-Cookie": "sid=1; Path=/"})
            assert request.headers["Cookie"] == "sid=1"
            return httpx.Response(503)

        outcomes: list[Outcome] = await fetched(
            [target(f"http://a.example/{number}") for number in range(3)], Network(script), max_attempts=2
        )

        assert [outcome.http_status for outcome in outcomes] == [503] * 3
        assert list(firsts.values()) == [["", ""]] * 3

    async def test_loop_that_persists_names_the_likely_cause(self) -> None:
        outcome = await fetched_one(target("http://a.example/x"), redirecting(lambda _: False), max_redirects=3)

        assert outcome.error_kind is ErrorKind.TOO_MANY_REDIRECTS
        assert outcome.error_detail.startswith("more than 3 redirects (--max-redirects): the URL redirects to itself")
