"""The admin pages show what was saved, change nothing, and read a bounded part of any table."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fetcher.admin import base
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Redirect
from fetcher.models import Body, RejectedLine, Result, Run, Target
from tests.rows import detail_of, make_body, make_result, make_run, make_target

MODELS = ["run", "result", "target", "body", "rejectedline"]


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page(client: Client, path: str) -> str:
    response = client.get(f"/admin/fetcher/{path}")
    assert response.status_code == 200, path
    return response.content.decode()


def listed(client: Client, path: str) -> list[int]:
    """Return the ids in the first column of a list."""
    return [int(key) for key in re.findall(r'<th class="field-id"><a href="[^"]+">(\d+)</a>', page(client, path))]


def one_of_each() -> dict[str, Any]:
    run = make_run(label="nightly", rejected=1)
    body = make_body(b"content")
    result = make_result(run, body=body, content_type="text/html", etag='"1"')
    line = RejectedLine.objects.create(run=run, source="urls.txt", line=7, value="nonsense", reason="is not a URL")
    return {"run": run, "body": body, "result": result, "target": result.target, "rejectedline": line}


@pytest.mark.parametrize("model", MODELS)
class TestEveryModel:
    def test_has_a_list_and_a_page(self, admin: Client, model: str) -> None:
        row = one_of_each()[model]
        assert listed(admin, f"{model}/") == [row.pk]
        page(admin, f"{model}/{row.pk}/change/")

    def test_cannot_be_added_changed_or_deleted(self, admin: Client, model: str) -> None:
        row = one_of_each()[model]
        assert admin.get(f"/admin/fetcher/{model}/add/").status_code == 403
        assert admin.post(f"/admin/fetcher/{model}/{row.pk}/change/", {}).status_code == 403
        assert admin.post(f"/admin/fetcher/{model}/{row.pk}/delete/", {"post": "yes"}).status_code == 403

    def test_an_unknown_number_leads_back(self, admin: Client, model: str) -> None:
        for key in ("4711", "nonsense", "9" * 40):
            assert admin.get(f"/admin/fetcher/{model}/{key}/change/").status_code == 302

    @pytest.mark.parametrize("term", ["nonsense", "9" * 40, "http://[", "'", "https://unknown.example/"])
    def test_a_search_that_finds_nothing_says_so(self, admin: Client, model: str, term: str) -> None:
        one_of_each()
        response = admin.get(f"/admin/fetcher/{model}/", {"q": term})
        assert response.status_code == 200
        assert "0 results" in response.content.decode()

    def test_the_list_says_what_its_search_understands(self, admin: Client, model: str) -> None:
        assert 'id="searchbar_helptext"' in page(admin, f"{model}/")

    def test_never_counts_a_whole_table(self, admin: Client, model: str) -> None:
        one_of_each()
        with CaptureQueriesContext(connection) as queries:
            page(admin, f"{model}/")
        counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
        assert counts
        assert all(f"LIMIT {base.CAP}" in count for count in counts)


def test_a_list_ends_at_the_cap_and_says_so(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "CAP", 3)
    runs = [make_run() for _ in range(5)]

    assert "This list ends after 3 rows" in page(admin, "run/")
    assert listed(admin, "run/")[0] == runs[-1].pk


@pytest.mark.parametrize("model", ["run", "result", "target"])
def test_the_number_of_queries_does_not_grow_with_the_rows(admin: Client, model: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(admin, f"{model}/")
        return len(captured)

    for number in range(2):
        make_result(make_run(), f"https://example.com/{number}")
    few = queries()
    for number in range(2, 20):
        make_result(make_run(), f"https://example.com/{number}")

    assert queries() == few


class TestRuns:
    def test_the_page_leads_to_results_by_status_and_cause(self, admin: Client) -> None:
        run = make_run()
        make_result(run, "https://example.com/1", status="failed", error_kind="dns")
        make_result(run, "https://example.com/2", status="failed", error_kind="http_status", http_status=404)
        shown = page(admin, f"run/{run.pk}/change/")

        for filters in ("status=failed", "error_kind=dns", "error_kind=http_status"):
            link = f"/admin/fetcher/result/?run={run.pk}&amp;{filters}"
            assert link in shown
        assert listed(admin, f"result/?run={run.pk}&error_kind=dns") == [Result.objects.get(error_kind="dns").pk]

    def test_the_page_shows_the_first_rejected_lines(self, admin: Client) -> None:
        run = one_of_each()["run"]
        assert "is not a URL" in page(admin, f"run/{run.pk}/change/")

    @pytest.mark.parametrize("term", ["nightly", "{pk}"])
    def test_the_search_finds_by_number_and_label(self, admin: Client, term: str) -> None:
        make_run(label="weekly")
        run = make_run(label="nightly")
        assert listed(admin, f"run/?q={term.format(pk=run.pk)}") == [run.pk]

    def test_the_sealed_secrets_are_not_even_read(self, admin: Client) -> None:
        run = make_run(secrets=b"sealed")
        with CaptureQueriesContext(connection) as queries:
            page(admin, "run/")
            page(admin, f"run/{run.pk}/change/")
        assert not any('"secrets"' in query["sql"] for query in queries)


class TestResults:
    def test_the_page_tells_each_attempt(self, admin: Client) -> None:
        attempts = (
            Attempt(number=1, started_at=0.0, elapsed=0.25, address="192.0.2.7", error_kind=ErrorKind.TIMEOUT,
                    error_detail="no byte for 30 s", waited=1.5, wait_reason="backoff"),
            Attempt(number=2, started_at=2.0, elapsed=0.1, address="192.0.2.8", http_status=200),
        )  # fmt: skip
        result = make_result(make_run(), detail=detail_of(None, attempts=attempts))
        shown = page(admin, f"result/{result.pk}/change/")

        for text in ("192.0.2.7", "timeout: no byte for 30 s", "1.50 s backoff", "192.0.2.8"):
            assert text in shown

    def test_the_page_shows_redirects_and_headers(self, admin: Client) -> None:
        detail = detail_of(
            None,
            redirects=(Redirect(301, "https://example.com/old", "/new"),),
            headers=(("Server", "nginx"), ("Location", "<script>")),
        )
        result = make_result(make_run(), detail=detail)
        shown = page(admin, f"result/{result.pk}/change/")

        assert "https://example.com/old" in shown
        assert "nginx" in shown
        assert "<script>alert" not in shown
        assert "&lt;script&gt;" in shown

    def test_secrets_are_masked(self, admin: Client) -> None:
        detail = detail_of(None, headers=(("X-Api-Key", "of the answer"),))
        result = make_result(make_run(), headers=[["Authorization", "of the target"]], detail=detail)
        for path in (f"result/{result.pk}/change/", f"target/{result.target_id}/change/"):
            shown = page(admin, path)
            assert "of the target" not in shown
            assert "of the answer" not in shown
            assert "***" in shown

    def test_the_body_is_a_download_from_the_api(self, admin: Client) -> None:
        result = one_of_each()["result"]
        assert f'href="/api/v1/results/{result.pk}/body/"' in page(admin, f"result/{result.pk}/change/")

    def test_the_list_does_not_read_what_it_does_not_show(self, admin: Client) -> None:
        one_of_each()
        with CaptureQueriesContext(connection) as queries:
            page(admin, "result/")
        (rows,) = [query["sql"] for query in queries if '"fetcher_target"."url"' in query["sql"]]
        assert '"detail"' not in rows
        assert '"extracted"' not in rows

    def test_filters_are_offered_within_a_run_only(self, admin: Client) -> None:
        run = one_of_each()["run"]
        assert "By error kind" not in page(admin, "result/")
        assert "By error kind" in page(admin, f"result/?run={run.pk}")

    @pytest.mark.parametrize("filters", ["", "&status=succeeded", "&status=nonsense"])
    def test_a_run_is_listed_from_its_beginning(self, admin: Client, filters: str) -> None:
        make_result(make_run(), "https://example.com/other")
        run = make_run()
        mine = [make_result(run, f"https://example.com/{number}").pk for number in range(3)]
        assert listed(admin, f"result/?run={run.pk}{filters}") == mine

    @pytest.mark.parametrize("run", ["nonsense", "4711", "9" * 40])
    def test_a_run_that_is_none_is_no_error(self, admin: Client, run: str) -> None:
        one_of_each()
        page(admin, f"result/?run={run}")

    def test_the_search_finds_every_result_of_a_url(self, admin: Client) -> None:
        first, second = (make_result(make_run(), "https://example.com/") for _ in range(2))
        make_result(make_run(), "https://example.com/other")
        assert listed(admin, "result/?q=https://EXAMPLE.com") == [second.pk, first.pk]
        assert listed(admin, f"result/?run={first.run_id}&q=https://example.com/") == [first.pk]
        assert listed(admin, f"result/?q={second.pk}") == [second.pk]

    def test_the_search_finds_a_host_of_a_run(self, admin: Client) -> None:
        run = make_run()
        make_result(run, "https://example.com/")
        result = make_result(run, "https://example.org/")
        assert listed(admin, f"result/?run={run.pk}&q=example.org:443") == [result.pk]


class TestTargets:
    def test_the_page_shows_its_history(self, admin: Client) -> None:
        results = [make_result(make_run(), "https://example.com/") for _ in range(2)]
        shown = page(admin, f"target/{results[0].target_id}/change/")
        for result in results:
            assert f"/admin/fetcher/result/{result.pk}/change/" in shown

    def test_the_search_finds_a_url(self, admin: Client) -> None:
        make_target("https://example.com/other")
        target = make_target("https://example.com/")
        assert listed(admin, "target/?q=https://example.com") == [target.pk]


class TestBodies:
    def test_the_search_finds_a_digest(self, admin: Client) -> None:
        make_body(b"other")
        body = make_body(b"content")
        assert listed(admin, f"body/?q={bytes(body.sha256).hex()}") == [body.pk]

    def test_the_content_is_never_read(self, admin: Client) -> None:
        body = one_of_each()["body"]
        with CaptureQueriesContext(connection) as queries:
            page(admin, "body/")
            page(admin, f"body/{body.pk}/change/")
        assert not any('"fetcher_body"."content"' in query["sql"] for query in queries)


def test_what_the_tables_hold_is_registered() -> None:
    from django.contrib import admin as site

    assert {model for model in site.site._registry if model._meta.app_label == "fetcher"} == {
        Run, Result, Target, Body, RejectedLine
    }  # fmt: skip
