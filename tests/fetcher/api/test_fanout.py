"""``fanout/``: everything but the fetching, which is injected where the view is made."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from fetcher.api.errors import Problem
from fetcher.api.fanout import parse_urls
from fetcher.demo.origin import ThreadedOrigin
from tests.fetcher.api import fanout_urls

FAKE = pytest.mark.urls("tests.fetcher.api.fanout_urls")
JSON = "application/json"


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.setattr(fanout_urls, "PAGES", {})
    monkeypatch.setattr(fanout_urls, "ASKED", [])
    return fanout_urls.PAGES


def path(*urls: str, extract: str | None = None) -> str:
    query = "&".join(f"url={quote(url, safe='')}" for url in urls)
    return f"/api/v1/fanout/?{query}" + (f"&extract={quote(extract)}" if extract else "")


@FAKE
class TestAnswer:
    def test_combines_the_answers_in_the_order_asked(self, api, pages):
        pages["https://a.example/"] = (JSON, b'{"args": {"a": 1}}')
        pages["https://b.example/"] = ("text/plain", b"hello")
        answer = api.get(path("https://b.example/", "https://a.example", "https://dead.example/"))
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        assert "ETag" not in answer.headers
        ok = {"status": "succeeded", "http_status": 200, "error_kind": None, "error_detail": None,
              "elapsed_ms": 1.235, "extracted": None}  # fmt: skip
        assert answer.json() == {
            "run": 42,
            "elapsed_ms": 9.877,
            "items": [
                {"url": "https://b.example/", **ok, "text": "hello"},
                {"url": "https://a.example/", **ok, "json": {"args": {"a": 1}}},
                {"url": "https://dead.example/", **ok, "status": "failed", "http_status": None, "error_kind": "dns",
                 "error_detail": "no such name"},
            ],
        }  # fmt: skip

    def test_extracts_what_a_loop_over_the_json_would(self, api, pages):
        urls = [f"https://a.example/?foo={index}" for index in range(3)]
        for index, url in enumerate(urls):
            pages[url] = (JSON, b'{"args": {"foo": "%d"}}' % index)
        items = api.get(path(*urls, extract="args")).json()["items"]
        assert [item["extracted"] for item in items] == [{"foo": "0"}, {"foo": "1"}, {"foo": "2"}]

    @pytest.mark.parametrize("expression", ["sum(args)", "abs(args)", "sort_by(args, &x)", "missing"])
    def test_extracts_null_where_the_expression_does_not_fit(self, api, pages, expression):
        pages["https://a.example/"] = (JSON, b'{"args": "text"}')
        answer = api.get(path("https://a.example/", extract=expression))
        assert (answer.status, answer.json()["items"][0]["extracted"]) == (200, None)

    def test_says_why_nothing_is_extracted(self, api, pages):
        pages["https://a.example/"] = (JSON, b"1")
        [item] = api.get(path("https://a.example/", extract="|".join(["[@,@]"] * 26))).json()["items"]
        assert (item["status"], item["json"], item["extracted"]) == ("succeeded", 1, None)
        assert item["error_detail"] == "the extracted value is not saved: it takes more than 65536 bytes"

    def test_gives_json_as_it_came(self, api, pages):
        pages["https://a.example/"] = (JSON, b'{"a": 1.50, "b": 18446744073709551617}')
        assert b'"json":{"a": 1.50, "b": 18446744073709551617}' in api.get(path("https://a.example/")).body

    def test_leaves_out_content_that_makes_it_too_large_and_says_so(self, api, pages, settings):
        settings.FETCHER_FANOUT_MAX_BYTES = 1000
        pages["https://a.example/"] = ("text/plain", b"\x01" * 500)
        pages["https://b.example/"] = ("text/plain", b"b" * 500)
        first, *others = api.get(path("https://a.example/", *["https://b.example/"] * 4)).json()["items"]
        assert (first["status"], "text" in first) == ("succeeded", False)
        assert first["error_detail"] == "its content is left out: the answer has room for 2000 bytes more; it is saved"
        assert ["text" in item for item in others] == [False] * 4
        [second] = api.get(path("https://b.example/")).json()["items"]
        assert second["text"] == "b" * 500

    def test_fetches_a_url_once_and_answers_it_as_often_as_asked(self, api, pages):
        pages["https://a.example/"] = (JSON, b"[]")
        answer = api.get(path("https://a.example/", "https://A.example/#b", "https://b.example/"))
        assert [item["url"] for item in answer.json()["items"]] == [
            "https://a.example/", "https://a.example/", "https://b.example/",
        ]  # fmt: skip
        assert fanout_urls.ASKED == [["https://a.example/", "https://b.example/"]]


@FAKE
class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "parameter", "detail"),
        [
            ("", "url", "url is missing"),
            ("?url=https://a.example/&extract=a..b", "extract", "extract is not a JMESPath expression"),
            ("?url=https://a.example/&extract=", "extract", "extract is not a JMESPath expression"),
            ("?url=https://a.example/&extract=" + "a" * 1001, "extract", "extract must be at most 1000 characters"),
            ("?url=https://a.example/&cursor=1", "cursor", "cursor is not a parameter of this address"),
        ],
    )
    def test_name_the_parameter(self, api, pages, query, parameter, detail):
        answer = api.get(f"/api/v1/fanout/{query}")
        assert (answer.status, answer.json()["parameter"]) == (400, parameter)
        assert answer.detail.startswith(detail)
        assert fanout_urls.ASKED == []

    def test_list_every_bad_url(self, api, pages):
        answer = api.get(path("https://a.example/", "b.example", "ftp://c.example/"))
        assert (answer.status, answer.json()["invalid"]) == (
            400,
            [
                {"url": "b.example", "reason": "has no scheme; write https://b.example"},
                {"url": "ftp://c.example/", "reason": "the scheme 'ftp' is not supported; only http and https are"},
            ],
        )
        assert "'b.example' has no scheme" in answer.detail

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://["},
        ],
    )
    def test_cross_site_callers(self, api, pages, headers):
        answer = api.get(path("https://a.example/"), **headers)
        assert answer.status == 403
        assert fanout_urls.ASKED == []

    @pytest.mark.parametrize(
        "headers", [{"sec_fetch_site": "none"}, {"sec_fetch_site": "same-origin", "origin": "http://testserver"}]
    )
    def test_leave_our_own_pages_and_the_address_bar_alone(self, api, pages, headers):
        assert api.get(path("https://a.example/"), **headers).status == 200


class TestParseUrls:
    def test_takes_as_many_as_are_allowed(self, settings):
        settings.FETCHER_FANOUT_MAX_URLS = 2
        assert len(parse_urls(["https://a.example/"] * 2)) == 2
        with pytest.raises(Problem, match="url is given 3 times; at most 2 URLs can be fetched in one call"):
            parse_urls(["https://a.example/"] * 3)


class TestEndToEnd:
    @pytest.fixture
    def running(self, settings) -> Iterator[ThreadedOrigin]:
        settings.FETCHER_ALLOWED_NETWORKS = "127.0.0.0/8"
        with ThreadedOrigin() as origin:
            yield origin

    def test_fetches_extracts_saves_and_answers(self, api, running):
        urls = [running.url("/ok/1"), running.url("/status/404"), running.url("/ok/2")]
        answer = api.get(path(*urls, extract="ok"))
        assert answer.status == 200
        items = answer.json()["items"]
        assert [item["url"] for item in items] == urls
        assert [item["extracted"] for item in items] == [1, None, 2]
        assert [item["error_kind"] for item in items] == [None, "http_status", None]
        saved = api.get(f"/api/v1/runs/{answer.json()['run']}/results/").json()["items"]
        assert {item["url"]: item["extracted"] for item in saved} == dict(zip(urls, [1, None, 2], strict=True))

    def test_sends_the_operators_secret_headers_to_the_hosts_that_are_named_only(self, api, running, settings):
        settings.FETCHER_HEADERS = "Authorization: Bearer s3cret\nX-Plain: p"
        url = running.url("/echo")
        [item] = api.get(path(url)).json()["items"]
        assert "s3cret" not in str(item)
        assert "X-Plain" in str(item) or "x-plain" in str(item)
        settings.FETCHER_HEADERS_HOSTS = url.split("/")[2]
        [item] = api.get(path(url)).json()["items"]
        assert "s3cret" in str(item)

    def test_is_a_503_where_a_large_body_has_no_room_on_this_servers_disk(self, api, running, settings, tmp_path):
        settings.FETCHER_SPILL_THRESHOLD, settings.FETCHER_SPILL_FOLDER = 1, str(tmp_path / "none")
        answer = api.get(path(running.url("/bytes/1000000")))
        assert answer.status == 503
        assert "none" in answer.detail

    def test_leaves_the_database_free_for_the_next_call(self, api, running):
        runs = [api.get(path(running.url("/ok/1"))).json()["run"] for _ in range(3)]
        assert len(set(runs)) == 3

    def test_refuses_private_addresses_as_any_run_does(self, api):
        [item] = api.get(path("http://127.0.0.1:9/")).json()["items"]
        assert (item["status"], item["error_kind"]) == ("failed", "blocked_address")
