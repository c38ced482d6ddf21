"""A few URLs fetched now, side by side."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest
from django.db import connection
from django.test import override_settings

from fetcher.bodies import read_body
from fetcher.engine.config import ConfigError
from fetcher.engine.urls import parse_url
from fetcher.extraction import Found, parse_extract
from fetcher.fanout import FanOutReport, fan_out
from fetcher.models import HostPause, Result, Run, RunState
from fetcher.store import pauses
from tests.support.stored import fetch

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _loopback_allowed(settings):
    settings.FETCHER_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    settings.FETCHER_BACKOFF_BASE = 0.01


def call(*urls: str, read=lambda report: None, **options) -> FanOutReport:
    async def fanned_out() -> FanOutReport:
        async with fan_out([parse_url(url) for url in urls], **options) as report:
            read(report)
        return report

    return asyncio.run(fanned_out())


class TestFanOut:
    def test_answers_in_the_order_asked_whoever_was_first(self, threaded_origin):
        urls = [threaded_origin.url(path) for path in ("/slow/1?ms=200", "/missing/2", "/ok/3", "/flaky/4")]
        report = call(*urls)
        assert [outcome.target.url for outcome in report.outcomes] == urls
        assert [outcome.status for outcome in report.outcomes] == ["succeeded", "failed", "succeeded", "succeeded"]

    def test_fetches_side_by_side(self, threaded_origin):
        began = time.monotonic()
        report = call(*(threaded_origin.url(f"/slow/{number}?ms=300") for number in range(8)))
        assert threaded_origin.peak == 8
        assert report.elapsed_ms <= (time.monotonic() - began) * 1000

    def test_saves_a_completed_run_before_it_answers(self, threaded_origin):
        urls = [threaded_origin.url(f"/ok/{number}") for number in range(3)]
        run = Run.objects.get(pk=call(*urls).run)
        results = Result.objects.filter(run=run).order_by("position").select_related("representation__body")
        bodies = [read_body(result.representation.body) for result in results]
        assert (run.state, run.source) == (RunState.COMPLETED, "fanout")
        assert [json.loads(body) for body in bodies] == [{"ok": n} for n in range(3)]

    def test_saves_what_is_extracted(self, threaded_origin):
        call(threaded_origin.url("/ok/5"), extract=parse_extract("ok"))
        assert Result.objects.get().extracted == 5

    def test_holds_up_no_other_writer_while_it_extracts(self, threaded_origin):
        def extract(outcomes, *, seconds):
            try:
                Run.objects.create(label="another writer")  # on SQLite it would wait for 20 s and fail
            finally:
                connection.close()
            return [Found(7)] * len(outcomes)

        call(threaded_origin.url("/ok/1"), extract=extract)
        assert Result.objects.get().extracted == 7
        assert Run.objects.filter(label="another writer").exists()

    def test_asks_for_the_body_although_it_is_known(self, threaded_origin):
        url = threaded_origin.url("/etag/1")
        statuses = [call(url).outcomes[0].http_status for _ in range(2)]
        assert statuses == [200, 200]
        assert list(Result.objects.order_by("id").values_list("changed", flat=True)) == [None, False]

    @override_settings(FETCHER_FANOUT_DEADLINE=0.5)
    def test_cuts_what_is_not_finished_in_time(self, threaded_origin):
        began = time.monotonic()
        report = call(threaded_origin.url("/ok/1"), threaded_origin.url("/hang/2"))
        assert time.monotonic() - began < 5
        fine, cut = report.outcomes
        assert (fine.status, cut.status, cut.error_kind) == ("succeeded", "failed", "cancelled")
        assert "FETCHER_FANOUT_DEADLINE" in cut.error_detail
        assert set(Result.objects.values_list("error_kind", flat=True)) == {None, "cancelled"}

    def test_tells_a_later_run_what_it_may_compare_with(self, threaded_origin):
        url = threaded_origin.url("/ok/1")
        fetch(url, body=b'{"ok": 0}')
        call(url)
        assert Result.objects.latest("id").changed is True

    @override_settings(FETCHER_FANOUT_MAX_BYTES=5 * 2**20)
    def test_keeps_no_more_bytes_than_it_may_and_fails_what_is_too_much(self):
        body = b"x" * 2 * 2**20
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        lengths = []
        report = call(
            *(f"http://a.example/{number}" for number in range(6)),
            transport=transport,
            read=lambda report: lengths.extend(len(one.body.read()) for one in report.outcomes if one.body),
        )
        assert lengths == [len(body)] * 2
        assert sorted(str(outcome.error_kind) for outcome in report.outcomes) == ["None"] * 2 + ["too_large"] * 4
        assert {outcome.error_detail for outcome in report.outcomes} == {
            "", "the bodies of this call take more than 5242880 bytes together (FETCHER_FANOUT_MAX_BYTES)",
        }  # fmt: skip
        assert Result.objects.filter(error_kind="too_large", bytes=0).count() == 4

    @override_settings(FETCHER_FANOUT_MAX_BYTES=100)
    def test_a_failure_whose_body_is_too_much_has_failed_for_its_own_reason(self):
        transport = httpx.MockTransport(lambda request: httpx.Response(404, content=b"x" * 60))
        report = call("http://a.example/1", "http://a.example/2", transport=transport)
        assert {(outcome.error_kind, outcome.http_status) for outcome in report.outcomes} == {("http_status", 404)}
        assert sorted(len(outcome.body or b"") for outcome in report.outcomes) == [0, 60]

    @override_settings(FETCHER_HEADERS="Authorization: env:TRAWL_TEST_UNSET")
    def test_raises_where_a_headers_variable_is_not_set(self):
        with pytest.raises(ConfigError, match="TRAWL_TEST_UNSET"):
            call("http://a.example/")
        assert not Run.objects.exists()

    def test_takes_a_transport(self):
        report = call("http://a.example/", transport=httpx.MockTransport(lambda request: httpx.Response(204)))
        assert report.outcomes[0].http_status == 204


class TestAPausedHost:
    """A Retry-After that somebody else was given is kept here too."""

    def test_that_is_to_be_left_alone_for_longer_than_it_may_take_is_not_asked_and_not_waited_for(self):
        pauses.save({"a.example:80": time.monotonic() + 100})
        asked = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.host)
            return httpx.Response(204)

        began = time.monotonic()
        report = call("http://a.example/", "http://b.example/", transport=httpx.MockTransport(answer))
        closed, fine = report.outcomes
        assert (closed.status, closed.error_kind, closed.attempts) == ("failed", "cancelled", ())
        assert "a.example:80 asked to be left alone for 100 s more" in closed.error_detail
        assert (fine.http_status, asked) == (204, ["b.example"])
        assert time.monotonic() - began < 10

    def test_is_asked_once_a_shorter_pause_is_over(self):
        until = time.monotonic() + 0.5
        pauses.save({"a.example:80": until})
        asked = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(time.monotonic())
            return httpx.Response(204)

        report = call("http://a.example/", transport=httpx.MockTransport(answer))
        assert report.outcomes[0].http_status == 204
        assert asked[0] >= until - 0.01

    def test_that_it_was_told_of_itself_is_told_to_others(self):
        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(429, headers={"Retry-After": "100"})

        call("http://a.example/", transport=httpx.MockTransport(answer))
        assert list(HostPause.objects.values_list("host", flat=True)) == ["a.example:80"]
