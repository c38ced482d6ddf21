"""How headers, redirects and attempts are stored."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.details import AttemptDetail, Detail, HeaderKeeper, RedirectDetail, decode_detail, encode_detail
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Redirect, Status, Target, Timings
from tests.support.stored import outcome

TARGET = Target("http://a.example/", "a.example:80")
# No letters: these are never the name of a secret, of a cookie or of a URL.
names = st.text(st.characters(codec="latin-1", exclude_categories=["L"]), max_size=20)
values = st.text(st.characters(codec="latin-1"), max_size=20)


@given(st.lists(st.tuples(names, values), max_size=10).map(tuple))
def test_headers_come_back_in_order(headers):
    assert decode_detail(encode_detail(outcome(TARGET, headers=headers))).headers == headers


def test_cookies_are_left_out():
    headers = (("set-COOKIE", "a=1"), ("Set-Cookie2", "b=1"), ("Cookie-Jar", "c"))
    assert decode_detail(encode_detail(outcome(TARGET, headers=headers))).headers == (("Cookie-Jar", "c"),)


def kept(name: str, value: str, **names: frozenset[str]) -> str:
    """Return what is stored of one header, each time anew and with what was learned of its name before."""
    keeper = HeaderKeeper(**names)
    first, again = (
        decode_detail(encode_detail(outcome(TARGET, headers=((name, value), ("X-A", "1"))), keeper)).headers
        for _ in range(2)
    )
    assert first == again
    assert first[1] == ("X-A", "1")
    return first[0][1]


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("Authorization", "Bearer s3cret", "***"),
        ("x-api-KEY", "s3cret", "***"),
        ("X-Auth-Token", "s3cret", "***"),
        ("Location", "https://u:s3cret@a.example/?token=s3cret&a=1", "https://***@a.example/?token=***&a=1"),
        ("Location", "/cb?code=s3cret with space", "/cb?code=***"),
        ("X-Amz-Website-Redirect-Location", "/?sig=s3cret", "/?sig=***"),
        ("X-Original-URL", "/?sig=s3cret", "/?sig=***"),
        ("Link", "</?page_token=2&token=s3cret>; rel=next", "</?page_token=2&token=***>; rel=next"),
        ("Refresh", "0; url=https://a.example/?token=s3cret", "0; url=https://a.example/?token=***"),
        ("WWW-Authenticate", 'Basic realm="a"', 'Basic realm="a"'),
        ("ETag", '"?token=1"', '"?token=1"'),
    ],
)
def test_secrets_that_a_server_sends_are_masked(name: str, value: str, stored: str) -> None:
    assert kept(name, value) == stored


def test_operators_names_of_secrets_count() -> None:
    assert kept("X-Acme", "s3cret", headers=frozenset({"x-acme"})) == "***"
    assert kept("Location", "/?acme=s3cret", parameters=frozenset({"acme"})) == "/?acme=***"


def test_names_that_servers_choose_do_not_fill_the_memory() -> None:
    keeper = HeaderKeeper()
    for number in range(3000):
        keeper.keep(((f"X-{number}", "1"), (f"X-{'a' * 1000}{number}", "1")))
    assert len(keeper._plain) <= 1024
    assert max(map(len, keeper._plain)) <= 64


def test_redirects_and_attempts_come_back():
    attempt = Attempt(
        number=1, started_at=1.5, elapsed=0.25, address="127.0.0.1:80", http_version="HTTP/2", http_status=503,
        error_kind=ErrorKind.HTTP_STATUS, error_detail="HTTP 503", timings=Timings(dns=0.1, first_byte=0.2, total=0.25),
        waited=1.0, wait_reason="backoff",
    )  # fmt: skip
    redirects = (Redirect(302, "http://a/", "http://b/"),)
    stored = encode_detail(outcome(TARGET, attempts=(attempt,), redirects=redirects, started_at=1.0))
    detail = decode_detail(stored)
    assert detail.redirects == (RedirectDetail(302, "http://a/", "http://b/"),)
    [found] = detail.attempts
    assert found == AttemptDetail(
        elapsed_us=250_000, first_byte_us=200_000, address="127.0.0.1:80", http_status=503, dns_us=100_000,
        after_ms=500, error_kind=ErrorKind.HTTP_STATUS, error_detail="HTTP 503", waited_us=1_000_000,
        wait_reason="backoff", http_version="HTTP/2",
    )  # fmt: skip


def test_an_attempt_as_usual_takes_few_bytes():
    attempt = Attempt(1, 1_700_000_000.0, 0.05, "127.0.0.1:80", "HTTP/1.1", 304, timings=Timings(first_byte=0.04))
    answer = outcome(TARGET, status=Status.NOT_MODIFIED, attempts=(attempt,), headers=(("ETag", '"1"'),))
    assert len(encode_detail(answer)) < 40


def test_the_headers_of_a_304_are_not_stored():
    answer = outcome(TARGET, status=Status.NOT_MODIFIED, headers=(("ETag", '"1"'),))
    assert decode_detail(encode_detail(answer)).headers == ()


def test_half_a_surrogate_pair_is_stored_as_a_question_mark():
    attempt = Attempt(1, 0.0, 0.0, error_detail="\ud800", error_kind=ErrorKind.INTERNAL)
    [found] = decode_detail(encode_detail(outcome(TARGET, attempts=(attempt,)))).attempts
    assert (found.error_detail, found.error_kind) == ("?", ErrorKind.INTERNAL)


def test_nothing_stored_is_an_empty_detail():
    assert decode_detail(None) == Detail()


def test_many_headers_are_compressed():
    headers = tuple((f"X-Header-{number}", "the value of this header") for number in range(40))
    stored = encode_detail(outcome(TARGET, headers=headers))
    assert len(stored) < sum(len(name) + len(value) for name, value in headers) / 4
    assert decode_detail(stored).headers == headers


def test_what_was_compressed_with_zlib_is_still_read():
    stored = zlib.compress(msgspec.msgpack.encode(([], [], [("X-A", "1")])))
    assert decode_detail(stored).headers == (("X-A", "1"),)
