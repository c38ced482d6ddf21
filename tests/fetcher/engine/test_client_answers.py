"""Which answers count although something is wrong with their body, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from fetcher.engine.errors import ErrorKind
from fetcher.engine.transport.messages import WholeBody
from fetcher.engine.types import Outcome, Status, Validators
from tests.fetcher.engine.test_runner import fetched_one, target
from tests.support.packing import gzipped

URL = "http://a.example/"
GZIP = {"Content-Encoding": "gzip"}


class Body(httpx.AsyncByteStream):
    """Bytes, then a failure or a wait for ever."""

    def __init__(self, data: bytes = b"", *, failure: Exception | None = None, hangs: bool = False) -> None:
        self._data = data
        self._failure = failure
        self._hangs = hangs

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._data:
            yield self._data
        if self._failure is not None:
            raise self._failure
        if self._hangs:
            await asyncio.Event().wait()


BROKEN: dict[str, tuple[Callable[[], httpx.AsyncByteStream], dict[str, str], str]] = {
    "invalid gzip": (lambda: Body(b"no gzip"), GZIP, "the body is not valid gzip: incorrect header check"),
    "truncated gzip": (lambda: Body(gzipped(b"x")[:-4]), GZIP, "the gzip body ends too early"),
    "too many codings": (lambda: Body(b"x"), {"Content-Encoding": "gzip, gzip, gzip, gzip"}, "4 content codings"),
    "too large": (lambda: Body(bytes(200)), {}, "larger than 100 bytes"),
    "declared too large": (Body, {"Content-Length": "200"}, "larger than 100 bytes"),
    "bomb": (lambda: Body(gzipped(bytes(200))), GZIP, "larger than 100 bytes"),
    "lost connection": (lambda: Body(b"x", failure=httpx.ReadError("reset")), {}, "reset"),
    "lost connection, whole": (lambda: WholeBody(b"x", httpx.RemoteProtocolError("closed")), {}, "closed"),
    "silence": (lambda: Body(b"x", failure=httpx.ReadTimeout("")), {}, "no bytes for 30 s"),
    "deadline": (lambda: Body(b"x", hangs=True), {}, "when the time for the attempt was up"),
}


async def outcome_of(name: str, status: int, headers: dict[str, str] | None = None, **options: Any) -> Outcome:
    """Fetch a target whose every answer has this status and this broken body."""
    stream, own, _ = BROKEN[name]

    async def script(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={**own, **(headers or {})}, stream=stream())

    one = target(URL, validators=Validators('"a"', "", URL))
    return await fetched_one(one, script, max_body=100, deadline=0.1, **options)


@pytest.mark.parametrize("name", BROKEN)
class TestStatusDecides:
    async def test_404_with_broken_body_is_http_status_and_not_retried(self, name: str) -> None:
        outcome = await outcome_of(name, 404)

        assert (outcome.status, outcome.error_kind, outcome.http_status) == (
            Status.FAILED, ErrorKind.HTTP_STATUS, 404,
        )  # fmt: skip
        assert len(outcome.attempts) == 1
        assert outcome.body is None
        assert outcome.error_detail.startswith("HTTP 404 Not Found; its body is not kept: ")
        assert BROKEN[name][2] in outcome.error_detail

    async def test_503_with_broken_body_is_retried_after_its_retry_after(self, name: str) -> None:
        outcome = await outcome_of(name, 503, {"Retry-After": "0"}, max_attempts=3)

        assert (outcome.error_kind, outcome.http_status) == (ErrorKind.HTTP_STATUS, 503)
        assert [attempt.wait_reason for attempt in outcome.attempts] == ["retry_after", "retry_after", None]

    async def test_200_with_broken_body_fails(self, name: str) -> None:
        outcome = await outcome_of(name, 200, max_attempts=1)

        assert outcome.status is Status.FAILED
        assert outcome.error_kind is not ErrorKind.HTTP_STATUS
        assert BROKEN[name][2] in outcome.error_detail

    async def test_304_with_broken_body_is_not_modified(self, name: str) -> None:
        assert (await outcome_of(name, 304)).status is Status.NOT_MODIFIED

    async def test_redirect_with_broken_body_is_followed(self, name: str) -> None:
        stream, headers, _ = BROKEN[name]

        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/end":
                return httpx.Response(200, stream=Body(b"end"))
            return httpx.Response(302, headers={**headers, "Location": "/end"}, stream=stream())

        outcome = await fetched_one(target(URL), script, max_body=100)

        assert (outcome.status, outcome.body, len(outcome.attempts)) == (Status.SUCCEEDED, b"end", 1)


class TestCodings:
    @pytest.mark.parametrize("status", [200, 404])
    @pytest.mark.parametrize(
        ("coding", "raw", "named"),
        [
            ("UTF-8", b"as it is", "utf-8"),
            ("none", b"as it is", "none"),
            ("aws-chunked", b"as it is", "aws-chunked"),
            ("binary", b"as it is", "binary"),
            ("8bit, gzip", gzipped(b"as it is"), "8bit"),
            ("gzip, compress", gzipped(b"as it is"), "compress"),
            ("a, b, c, d, e", b"as it is", "a"),
        ],
    )
    async def test_unknown_coding_keeps_the_body_with_a_remark(
        self, coding: str, raw: bytes, named: str, status: int
    ) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, headers={"Content-Encoding": coding}, stream=WholeBody(raw))

        outcome = await fetched_one(target(URL), script)

        assert outcome.body == b"as it is"
        assert outcome.status is (Status.SUCCEEDED if status == 200 else Status.FAILED)
        remark = f"the content coding {named!r} is unknown: the body is kept as it came"
        assert outcome.error_detail == (remark if status == 200 else f"HTTP 404 Not Found; {remark}")

    @pytest.mark.parametrize("coding", ["none", "gzip", "gzip, gzip, gzip, gzip"])
    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 200)])
    async def test_answer_without_a_body_succeeds_under_any_coding(self, method: str, status: int, coding: str) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, headers={"Content-Encoding": coding}, stream=Body())

        outcome = await fetched_one(target(URL, method=method), script)

        assert (outcome.status, outcome.body, outcome.error_detail) == (Status.SUCCEEDED, b"", "")


async def test_redirect_whose_body_never_ends_is_followed_soon() -> None:
    """Waiting for its body, up to the read timeout, would only save a connection."""

    async def script(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/end":
            return httpx.Response(200, stream=Body(b"end"))
        return httpx.Response(302, headers={"Location": "/end"}, stream=Body(hangs=True))

    outcome = await fetched_one(target(URL), script, deadline=10)

    assert outcome.body == b"end"
