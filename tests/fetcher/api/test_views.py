"""What the reading addresses answer, over ASGI and WSGI alike."""

from __future__ import annotations

import hashlib
import json
import zlib

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from fetcher.api import views
from fetcher.models import Result
from tests.rows import NOON, detail_of, make_body, make_result, make_run, make_shard, make_target, zlib_body

RUNS = "/api/v1/runs/"


def results_of(run) -> str:
    return f"/api/v1/runs/{run.pk}/results/"


class TestHealthz:
    def test_answers_ok_whoever_asks(self, api):
        answer = api.get("/healthz", peer="203.0.113.9")
        assert (answer.status, answer.json()) == (200, {"status": "ok"})


class TestRunList:
    def test_of_nothing_is_an_empty_page(self, api):
        answer = api.get(RUNS)
        assert (answer.status, answer.json()) == (200, {"items": [], "next": None})

    def test_has_the_newest_first(self, api):
        runs = [make_run() for _ in range(3)]
        assert [item["id"] for item in api.get(RUNS).json()["items"]] == [run.pk for run in reversed(runs)]

    @pytest.mark.parametrize("query", ["state=interrupted", "label=nightly", "job=feeds"])
    def test_filters(self, api, query):
        wanted = make_run(state="interrupted", label="nightly", job_name="feeds")
        make_run(state="completed", label="other", job_name="others")
        assert [item["id"] for item in api.get(f"{RUNS}?{query}").json()["items"]] == [wanted.pk]

    def test_pages_meet_without_gap_or_overlap_although_runs_are_added_meanwhile(self, api):
        runs = [make_run().pk for _ in range(5)]
        seen, path = [], f"{RUNS}?limit=2"
        while path:
            page = api.get(path).json()
            seen += [item["id"] for item in page["items"]]
            make_run()
            path = page["next"] and f"{RUNS}?limit=2&cursor={page['next']}"
        assert seen == runs[::-1]

    def test_links_to_the_next_page_with_the_same_filters(self, api):
        for _ in range(2):
            make_run(label="ä b")
        answer = api.get(f"{RUNS}?limit=1&label=%C3%A4%20b")
        link = answer.headers["Link"]
        assert link.startswith(f"<{RUNS}?")
        assert link.endswith('>; rel="next"')
        following = api.get(link[1:].partition(">")[0])
        assert following.json()["items"][0]["id"] < answer.json()["items"][0]["id"]
        assert "Link" not in following.headers

    def test_cuts_a_limit_that_is_too_large(self, api, settings):
        settings.FETCHER_PAGE_LIMIT = 2
        for _ in range(3):
            make_run()
        assert len(api.get(f"{RUNS}?limit=5000").json()["items"]) == 2


class TestRunDetail:
    def test_counts_by_its_lanes(self, api):
        run = make_run()
        make_result(run, "https://a.example/", bytes=10)
        make_result(run, "https://b.example/", bytes=5, status="failed")
        item = api.get(f"{RUNS}{run.pk}/").json()
        assert [item[name] for name in ("id", "total", "pending", "succeeded", "failed", "bytes")] == [
            run.pk, 2, 0, 1, 1, 15,
        ]  # fmt: skip

    @pytest.mark.parametrize("number", [1, 2**63 - 1, 2**63, 10**30])
    def test_of_none_is_a_404(self, api, number):
        answer = api.get(f"{RUNS}{number}/")
        assert (answer.status, answer.detail) == (404, f"There is no run {number}.")


class TestRunResults:
    def test_are_in_id_order_and_complete_over_pages(self, api):
        run, other = make_run(), make_run()
        for index in range(3):
            for one in (run, other):
                shard = make_shard(one)
                for place in range(3):
                    make_result(one, f"https://example.com/{index}/{place}", shard=shard)
        seen, path = [], f"{results_of(run)}?limit=2"
        while path:
            page = api.get(path).json()
            seen += page["items"]
            path = page["next"] and f"{results_of(run)}?limit=2&cursor={page['next']}"
        ids = [item["id"] for item in seen]
        assert len(ids) == 9
        assert ids == sorted(ids)
        assert {item["run"] for item in seen} == {run.pk}

    @pytest.mark.parametrize(
        ("query", "paths"),
        [
            ("status=failed", ["/dead", "/gone"]),
            ("status=skipped", ["/skipped"]),
            ("status=succeeded", ["/", "/new"]),
            ("error_kind=http_status", ["/gone"]),
            ("error_kind=timeout", ["/dead", "/skipped"]),
            ("error_kind=timeout&status=failed", ["/dead"]),
            ("http_status=410", ["/gone"]),
            ("changed=1", ["/new"]),
            ("changed=false", ["/"]),
            ("host=a.example", ["/dead", "/skipped"]),
            ("host=A.Example:443", ["/dead", "/skipped"]),
            ("host=a.example:80", []),
            ("host=b.example:8080", ["/", "/new"]),
            ("host=b.example", []),
            ("host=c.example&status=failed", ["/gone"]),
        ],
    )
    def test_filters(self, api, query, paths):
        run = make_run()
        make_result(run, "https://a.example/dead", status="failed", http_status=None)
        make_result(run, "https://a.example/skipped", status="skipped", http_status=None)
        make_result(run, "http://b.example:8080/", changed=False)
        make_result(run, "http://b.example:8080/new", changed=True)
        make_result(run, "http://c.example/gone", status="failed", error_kind="http_status", http_status=410)
        items = api.get(f"{results_of(run)}?{query}").json()["items"]
        assert sorted("/" + item["url"].split("/", 3)[3] for item in items) == paths

    def test_of_a_run_that_is_not_is_a_404(self, api):
        assert api.get("/api/v1/runs/77/results/").status == 404

    def test_refuse_the_cursor_of_another_run(self, api):
        run, other = make_run(), make_run()
        for index in range(2):
            make_result(run, f"https://example.com/{index}")
        cursor = api.get(f"{results_of(run)}?limit=1").json()["next"]
        answer = api.get(f"{results_of(other)}?cursor={cursor}")
        assert (answer.status, answer.json()["parameter"]) == (400, "cursor")

    def test_differ_by_accept(self, api):
        run = make_run()
        assert api.get(results_of(run)).headers["Vary"].startswith("Accept")

    def test_in_a_form_that_is_not_served_are_a_406(self, api):
        answer = api.get(results_of(make_run()), accept="text/csv")
        assert (answer.status, answer.detail) == (406, "Accept must allow application/json or application/x-ndjson.")


class TestNdjson:
    NDJSON = "application/x-ndjson"

    def test_streams_every_result_as_a_line_equal_to_the_list_form(self, api, monkeypatch):
        monkeypatch.setattr(views, "STREAM_PAGE", 2)
        run = make_run()
        for index in range(5):
            make_result(run, f"https://example.com/{index}", shard=make_shard(run))
        answer = api.get(results_of(run), accept=self.NDJSON)
        assert answer.streamed
        assert answer.headers["Content-Type"] == self.NDJSON
        lines = [json.loads(line) for line in answer.body.decode().splitlines()]
        assert lines == api.get(results_of(run)).json()["items"]
        assert len(lines) == 5

    def test_reads_on_only_as_the_reader_does(self, client, transactional_db, monkeypatch):
        monkeypatch.setattr(views, "STREAM_PAGE", 2)
        run = make_run()
        for index in range(5):
            make_result(run, f"https://example.com/{index}")
        stream = client.get(results_of(run), headers={"accept": self.NDJSON}).streaming_content
        assert next(stream).count(b"\n") == 2
        Result.objects.all().delete()
        assert list(stream) == []

    def test_keeps_the_filters(self, api):
        run = make_run()
        make_result(run, "https://example.com/a")
        make_result(run, "https://example.com/b", status="failed")
        answer = api.get(f"{results_of(run)}?status=failed", accept=self.NDJSON)
        assert [json.loads(line)["status"] for line in answer.body.splitlines()] == ["failed"]

    def test_of_nothing_is_an_empty_body(self, api):
        assert api.get(results_of(make_run()), accept=self.NDJSON).body == b""

    def test_takes_no_limit(self, api):
        answer = api.get(f"{results_of(make_run())}?limit=3", accept=self.NDJSON)
        assert (answer.status, answer.json()["parameter"]) == (400, "limit")

    def test_has_no_body_for_head(self, api):
        run = make_run()
        make_result(run)
        answer = api.get(results_of(run), accept=self.NDJSON, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


class TestResultDetail:
    def test_adds_headers_and_attempts_to_the_list_form(self, api):
        run = make_run()
        target = make_target("https://example.com/")
        result = make_result(run, detail=detail_of(target, headers=(("Server", "x"),)))
        [listed] = api.get(results_of(run)).json()["items"]
        alone = api.get(f"/api/v1/results/{result.pk}/").json()
        assert list(alone)[-5:] == ["headers", "redirects", "attempt_log", "timings", "request"]
        assert {name: alone[name] for name in listed} == listed
        assert alone["headers"] == {"server": "x"}

    def test_of_none_is_a_404(self, api):
        assert api.get("/api/v1/results/1024/").detail == "There is no result 1024."


class TestResultBody:
    CONTENT = b'{"value": "' + b"x" * 300_000 + b'"}'

    def stored(self, name: str):
        if name == "file":
            path = default_storage.save("bodies/a", ContentFile(zlib.compress(self.CONTENT)))
            return make_body(self.CONTENT, content=None, file=path, encoding="zlib")
        return zlib_body(self.CONTENT) if name == "zlib" else make_body(self.CONTENT)

    @pytest.mark.parametrize("where", ["raw", "zlib", "file"])
    def test_is_the_decoded_bytes_wherever_they_lie(self, api, where):
        result = make_result(make_run(), body=self.stored(where), content_type="application/json; charset=utf-8")
        answer = api.get(f"/api/v1/results/{result.pk}/body/")
        assert (answer.status, answer.body) == (200, self.CONTENT)
        assert answer.headers["Content-Length"] == str(len(self.CONTENT))

    def test_can_only_be_saved_by_a_browser(self, api):
        result = make_result(make_run(), body=make_body(b"<script>"), content_type="text/html; charset=utf-8")
        headers = api.get(f"/api/v1/results/{result.pk}/body/").headers
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Content-Disposition"] == f'attachment; filename="result-{result.pk}.html"'
        assert headers["Content-Security-Policy"] == "sandbox"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["ETag"] == f'"{hashlib.sha256(b"<script>").hexdigest()}"'

    @pytest.mark.parametrize("content_type", ["", "nonsense", "text/html\r\nX-Evil: 1", "text/pläin", "a/b/c"])
    def test_has_no_content_type_of_doubtful_form(self, api, content_type):
        result = make_result(make_run(), body=make_body(b"x"), content_type=content_type)
        answer = api.get(f"/api/v1/results/{result.pk}/body/")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "X-Evil" not in answer.headers

    @pytest.mark.parametrize("size", [10, 400_000])
    def test_is_not_sent_again_to_who_has_it(self, api, size):
        result = make_result(make_run(), body=make_body(b"x" * size))
        path = f"/api/v1/results/{result.pk}/body/"
        again = api.get(path, if_none_match=api.get(path).headers["ETag"])
        assert (again.status, again.body) == (304, b"")

    @pytest.mark.parametrize("size", [10, 400_000])
    def test_has_only_a_head_for_head(self, api, size):
        result = make_result(make_run(), body=make_body(b"x" * size))
        answer = api.get(f"/api/v1/results/{result.pk}/body/", method="HEAD")
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", str(size))

    def test_that_was_not_stored_is_a_404(self, api):
        result = make_result(make_run())
        answer = api.get(f"/api/v1/results/{result.pk}/body/")
        assert (answer.status, answer.detail) == (404, f"No body is stored for result {result.pk}.")

    @pytest.mark.parametrize("size", [10, 400_000])
    def test_whose_file_is_gone_is_a_404_that_says_so(self, api, size):
        body = make_body(b"x" * size, content=None, file="bodies/gone")
        result = make_result(make_run(), body=body)
        answer = api.get(f"/api/v1/results/{result.pk}/body/")
        assert answer.status == 404
        assert "bodies/gone" in answer.detail


class TestLatest:
    def test_is_the_newest_runs_result_of_any_status(self, api):
        make_result(make_run(), "https://example.com/a")
        newest = make_result(make_run(), "https://example.com/a", status="failed")
        make_result(make_run(), "https://example.com/b")
        assert api.get("/api/v1/latest/?url=https://EXAMPLE.com:443/a%23part").json()["id"] == newest.pk

    def test_can_ask_for_the_newest_good_one(self, api):
        good = make_result(make_run(), "https://example.com/a")
        make_result(make_run(), "https://example.com/a", status="failed")
        assert api.get("/api/v1/latest/?url=https://example.com/a&good=1").json()["id"] == good.pk

    def test_means_a_plain_get(self, api):
        make_result(make_run(), "https://example.com/a", method="POST")
        assert api.get("/api/v1/latest/?url=https://example.com/a").status == 404

    def test_of_a_url_that_was_never_fetched_is_a_404(self, api):
        answer = api.get("/api/v1/latest/?url=https://example.com/a")
        assert (answer.status, answer.detail) == (404, "https://example.com/a was never fetched.")

    @pytest.mark.parametrize(
        ("query", "detail"),
        [
            ("?url=example.com", "url has no scheme; write https://example.com"),
            ("?url=ftp://example.com/", "url the scheme 'ftp' is not supported; only http and https are"),
            ("", "url is missing"),
            ("?url=http://a.example&url=http://b.example", "url is given 2 times; give it once"),
        ],
    )
    def test_of_what_is_no_url_says_why(self, api, query, detail):
        answer = api.get(f"/api/v1/latest/{query}")
        assert (answer.status, answer.detail, answer.json()["parameter"]) == (400, detail, "url")


class TestConditionalReads:
    def test_are_answered_with_304_until_something_changed(self, api):
        run = make_run()
        path = f"{RUNS}{run.pk}/"
        first = api.get(path)
        unchanged = api.get(path, if_none_match=f'W/{first.headers["ETag"]}, "other"')
        assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", first.headers["ETag"])
        run.finished_at = NOON
        run.save()
        assert api.get(path, if_none_match=first.headers["ETag"]).status == 200

    def test_keep_the_cursor_link_of_a_page(self, api):
        make_run(), make_run()
        first = api.get(f"{RUNS}?limit=1")
        assert api.get(f"{RUNS}?limit=1", if_none_match=first.headers["ETag"]).status == 304


class TestOtherAddresses:
    @pytest.mark.parametrize("path", ["/api/v1/", "/api/v1", "/api/v1/nothing/", "/api/v1/runs/x/", "/api/v1/runs/1/x"])
    def test_are_problems_too(self, api, path):
        answer = api.get(path)
        assert answer.status == 404
        assert answer.json()["instance"] == path
        assert "/api/v1/runs/" in answer.detail

    def test_without_the_last_slash_are_sent_on_with_their_query(self, api):
        answer = api.get("/api/v1/runs?limit=1")
        assert (answer.status, answer.headers["Location"]) == (301, "/api/v1/runs/?limit=1")


class TestHistory:
    URL = "/api/v1/history/?url=https://example.com/a"

    def test_has_all_results_of_the_url_newest_first(self, api):
        results = [make_result(make_run(), "https://example.com/a") for _ in range(3)]
        make_result(make_run(), "https://example.com/b")
        found = api.get(self.URL).json()
        assert [item["id"] for item in found["items"]] == [result.pk for result in reversed(results)]
        assert found["next"] is None

    def test_pages_meet_although_results_are_added_meanwhile(self, api):
        results = [make_result(make_run(), "https://example.com/a").pk for _ in range(5)]
        seen, path = [], f"{self.URL}&limit=2"
        while path:
            page = api.get(path).json()
            seen += [item["id"] for item in page["items"]]
            make_result(make_run(), "https://example.com/a")
            path = page["next"] and f"{self.URL}&limit=2&cursor={page['next']}"
        assert seen == results[::-1]

    def test_filters_by_status(self, api):
        failed = make_result(make_run(), "https://example.com/a", status="failed")
        make_result(make_run(), "https://example.com/a")
        assert [item["id"] for item in api.get(f"{self.URL}&status=failed").json()["items"]] == [failed.pk]
        assert api.get(f"{self.URL}&status=skipped").json() == {"items": [], "next": None}

    def test_of_a_url_never_fetched_is_404(self, api):
        assert api.get(self.URL).detail == "https://example.com/a was never fetched."

    def test_refuses_the_cursor_of_another_urls_history(self, api):
        for _ in range(2):
            make_result(make_run(), "https://example.com/a")
        cursor = api.get(f"{self.URL}&limit=1").json()["next"]
        answer = api.get(f"/api/v1/history/?url=https://example.com/b&cursor={cursor}")
        assert (answer.status, answer.json()["parameter"]) == (400, "cursor")

    @pytest.mark.parametrize("query", ["", "?url=nonsense", "?url=https://a.example/&state=running"])
    def test_names_the_parameter_at_fault(self, api, query):
        answer = api.get(f"/api/v1/history/{query}")
        assert (answer.status, bool(answer.json()["parameter"])) == (400, True)

    def test_is_not_sent_again_unchanged(self, api):
        make_result(make_run(), "https://example.com/a")
        first = api.get(self.URL)
        assert api.get(self.URL, if_none_match=first.headers["ETag"]).status == 304
        make_result(make_run(), "https://example.com/a")
        assert api.get(self.URL, if_none_match=first.headers["ETag"]).status == 200


class TestReads:
    def test_of_every_kind_have_an_etag_and_honour_it(self, api):
        run = make_run()
        result = make_result(run, "https://example.com/a", body=make_body(b"text"), content_type="text/plain")
        for path in (
            RUNS,
            f"{RUNS}{run.pk}/",
            results_of(run),
            f"/api/v1/results/{result.pk}/",
            f"/api/v1/results/{result.pk}/body/",
            "/api/v1/latest/?url=https://example.com/a&good=1",
            "/api/v1/history/?url=https://example.com/a",
        ):
            first = api.get(path)
            assert (first.status, api.get(path, if_none_match=first.headers["ETag"]).status) == (200, 304), path
