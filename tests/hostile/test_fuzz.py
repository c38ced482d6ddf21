"""Answers of any shape, through engine, extraction and recording: each costs its own target only."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import Iterator

import brotli
import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.codings import zstd
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.models import Result, RunState
from fetcher.options import RunOptions
from fetcher.service import fetch_list
from tests.hostile.raw_server import RawServer, running_raw_server
from tests.support.stored import entries

AT_ONCE = 10
EXAMPLES = int(os.environ.get("TRAWL_FUZZ_ANSWERS", "200")) // AT_ONCE
CONFIG = FetchConfig(
    allowed_networks=(AllowedNetwork.parse("127.0.0.0/8"),),
    max_attempts=1, read_timeout=2, deadline=3, total_deadline=4, max_redirects=2, host_failures=0, max_body=2**20,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)

_VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"http/1.1", b"HTTP/2", b"HTTP/0.9", b"ICY", b""])
_CODES = st.one_of(
    st.sampled_from([b"200", b"204", b"206", b"301", b"302", b"304", b"404", b"429", b"500", b"503", b"999"]),
    st.integers(0, 10**25).map(lambda number: b"%d" % number),
    st.binary(max_size=8),
)
_NAMES = st.sampled_from([
    b"Content-Type", b"Content-Encoding", b"Content-Length", b"Transfer-Encoding", b"Location", b"ETag", b"Set-Cookie",
    b"Last-Modified", b"Retry-After", b"Connection", b"Date", b"X", b"X ", b"", b"Content-Disposition", b"Trailer",
])  # fmt: skip
_VALUES = st.one_of(
    st.sampled_from([
        b"application/json", b"application/json; charset=utf-16", b"text/html; charset=gbk", b"text/a; charset=\xff",
        b"gzip", b"br", b"zstd", b"deflate", b"gzip, br", b"none", b"chunked", b"identity", b"0", b"1", b"2", b"99",
        b"/0", b"?", b"//", b"env:HOME", b"basic-env:HOME", b'W/"x"', b"a=b; Path=/", b"close", b"keep-alive",
        b"Mon, 01 Jan 0000 00:00:00 GMT", b"18446744073709551616", b"-1",
    ]),
    st.binary(max_size=40),
)  # fmt: skip
_JSON = st.one_of(
    st.integers(1, 1200).map(lambda depth: b'{"a":' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(1, 5000).map(lambda digits: b'{"a":[' + b"9" * digits + b"," + b"9" * digits + b"]}"),
    st.sampled_from(
        [b'{"a":[1,2]}', b'{"a":"\\u0000\\ud800"}', b'{"a":[1e400,-0.0]}', b"{", b"[]", b"null", b'{"a":{}}']
    ),
    st.binary(max_size=200),
)
_CODED = st.sampled_from([lambda data: data, gzip.compress, zlib.compress, brotli.compress, zstd.compress])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Return an answer: mostly near to a valid one, for those come furthest."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    code = draw(st.one_of(st.just(b"200"), _CODES))
    first = draw(st.one_of(st.just(b"HTTP/1.1"), _VERSIONS)) + b" " + code + b" OK"
    fields = draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=5))
    body = draw(_CODED)(draw(_JSON))
    if draw(st.booleans()):
        fields.append((b"Content-Type", b"application/json"))
    if draw(st.booleans()):
        fields.append((b"Content-Length", b"%d" % len(body)))
    end = draw(st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r"]))
    head = end.join([first, *(name + b": " + value for name, value in fields), b"", b""])
    whole = head + body
    return whole[: draw(st.integers(0, len(whole)))] if draw(st.integers(0, 9)) == 0 else whole


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with running_raw_server() as running:
        yield running


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(st.lists(answers(), min_size=AT_ONCE, max_size=AT_ONCE))
def test_any_answer_costs_its_own_target_only(server: RawServer, transport: str, given_answers: list[bytes]) -> None:
    Result.objects.all().delete()
    server.answers = given_answers
    urls = [server.url(number) for number in range(len(given_answers))]
    with override_settings(FETCHER_TRANSPORT=transport):
        state = asyncio.run(fetch_list(entries(*urls), CONFIG, RunOptions(extract="a[0] || sum(a)")))

    assert state == RunState.COMPLETED
    results = {result.target.url: result for result in Result.objects.select_related("target")}
    assert results.keys() == set(urls)
    kinds = {result.error_kind for result in results.values()} - {None}
    assert kinds <= set(ErrorKind) - {ErrorKind.INTERNAL}
    assert all(result.http_status is None or 100 <= result.http_status <= 999 for result in results.values())
