"""What every address does before and after its own work."""

from __future__ import annotations

import pytest

RUNS = "/api/v1/runs/"


def test_a_problem_has_the_members_of_rfc_9457(api):
    answer = api.get(f"{RUNS}?colour=red")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "colour is not a parameter of this address; there are: cursor, job, label, limit, state",
        "instance": "/api/v1/runs/",
        "parameter": "colour",
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_a_405_that_lists_the_allowed_ones(api, method):
    answer = api.get("/api/v1/latest/", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.detail.startswith(f"{method} is not allowed here")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_where_runs_are_started_post_is_among_them(api, method):
    answer = api.get(RUNS, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


def test_head_is_get_without_a_body(api):
    full, head = api.get(RUNS), api.get(RUNS, method="HEAD")
    assert (head.status, head.headers["ETag"]) == (200, full.headers["ETag"])


@pytest.mark.urls("tests.fetcher.api.failing_urls")
def test_a_failure_logs_the_path_on_one_line(api, caplog):
    api.get("/failing/%0AERROR%20forged/")
    assert caplog.records[0].getMessage() == r"GET '/failing/\nERROR forged/' failed"


@pytest.mark.urls("tests.fetcher.api.failing_urls")
def test_a_failure_is_a_500_that_tells_nothing_and_logs_everything(api, caplog):
    answer = api.get("/failing/")
    assert answer.status == 500
    assert b"hunter2" not in answer.body
    assert "hunter2" in caplog.text


@pytest.mark.parametrize("path", [RUNS, "/api/v1/fanout/", "/api/v1/latest/", "/api/v1/jobs/"])
def test_more_parameters_than_django_reads_are_a_400(api, path):
    answer = api.get(f"{path}?{'&'.join(f'a{number}=1' for number in range(1001))}")
    assert (answer.status, "DATA_UPLOAD_MAX_NUMBER_FIELDS" in answer.detail) == (400, True)


def test_more_parameters_than_django_reads_are_a_400_where_runs_are_started(api):
    answer = api.post(f"{RUNS}?{'&'.join(f'a{number}=1' for number in range(1001))}", {"urls": ["http://a.example/"]})
    assert (answer.status, "DATA_UPLOAD_MAX_NUMBER_FIELDS" in answer.detail) == (400, True)
