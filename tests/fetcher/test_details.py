"""How headers, redirects and attempts are stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fetcher.details import Detail, RedirectDetail, TimingsDetail, decode_detail, encode_detail
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Redirect, Target, Timings
from tests.support.stored import outcome

TARGET = Target("http://a.example/", "a.example:80")
names = st.text(st.characters(codec="latin-1"), max_size=20)


@given(st.lists(st.tuples(names, names), max_size=10).map(tuple))
def test_headers_come_back_in_order(headers):
    kept = tuple(pair for pair in headers if pair[0].lower() not in ("set-cookie", "set-cookie2"))
    assert decode_detail(encode_detail(outcome(TARGET, headers=headers))).headers == kept


def test_cookies_are_left_out():
    headers = (("set-COOKIE", "a=1"), ("Set-Cookie2", "b=1"), ("Cookie-Jar", "c"))
    assert decode_detail(encode_detail(outcome(TARGET, headers=headers))).headers == (("Cookie-Jar", "c"),)


def test_redirects_and_attempts_come_back():
    attempt = Attempt(
        number=2, started_at=1.5, elapsed=0.25, address="127.0.0.1:80", http_version="1.1", http_status=503,
        error_kind=ErrorKind.HTTP_STATUS, error_detail="HTTP 503", timings=Timings(dns=0.1, total=0.25), waited=1.0,
        wait_reason="backoff",
    )  # fmt: skip
    stored = encode_detail(outcome(TARGET, attempts=(attempt,), redirects=(Redirect(302, "http://a/", "http://b/"),)))
    detail = decode_detail(stored)
    assert detail.redirects == (RedirectDetail(302, "http://a/", "http://b/"),)
    [found] = detail.attempts
    assert found.timings == TimingsDetail(dns=0.1, total=0.25)
    for name in ("number", "started_at", "elapsed", "address", "http_version", "http_status", "error_kind",
                 "error_detail", "waited", "wait_reason"):  # fmt: skip
        assert getattr(found, name) == getattr(attempt, name)


def test_half_a_surrogate_pair_is_stored_as_a_question_mark():
    attempt = Attempt(1, 0.0, 0.0, error_detail="\ud800", error_kind=ErrorKind.INTERNAL)
    [found] = decode_detail(encode_detail(outcome(TARGET, attempts=(attempt,)))).attempts
    assert (found.error_detail, found.error_kind) == ("?", ErrorKind.INTERNAL)


def test_nothing_stored_is_an_empty_detail():
    assert decode_detail(None) == Detail()
