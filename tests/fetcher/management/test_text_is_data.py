"""What a server, a list or a caller writes is sent, stored and shown as it is, and never looked up."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from fetcher.models import Representation, Result, Run
from fetcher.store.runs import load_options
from tests.support.answering import Answer, Asked, answering
from tests.support.commands import Called

ALLOW = ("--allow-network", "127.0.0.1/32")
VALUE = "s3cret-of-the-environment"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAWL_TEST_VARIABLE", VALUE)
    monkeypatch.setenv("TRAWL_TEST_LOGIN", f"user:{VALUE}")


@pytest.mark.parametrize("transport", ["libcurl", "h11"])
@pytest.mark.parametrize("text", ["env:TRAWL_TEST_VARIABLE", "basic-env:TRAWL_TEST_LOGIN", "env:TRAWL_TEST_UNSET"])
@pytest.mark.parametrize(("header", "condition"), [("ETag", "if-none-match"), ("Last-Modified", "if-modified-since")])
def test_validator_that_names_a_variable_goes_back_as_it_came(settings, transport, text, header, condition):
    settings.FETCHER_TRANSPORT = transport
    with answering(lambda asked: (200, {header: text}, b"ok")) as server:
        for _ in range(2):
            assert Called(f"{server.base}/", *ALLOW).code == 0
    assert [asked.headers.get(condition) for asked in server.asked] == [None, text]


@pytest.mark.parametrize("transport", ["libcurl", "h11"])
@pytest.mark.parametrize("unusable", ['"a\x01b"', '"' + "e" * 60_000 + '"', "*"])
def test_stored_validator_that_cannot_be_sent_is_left_out(settings, transport, unusable):
    settings.FETCHER_TRANSPORT = transport
    with answering(lambda asked: (200, {"ETag": '"good"'}, b"ok")) as server:
        Called(f"{server.base}/", *ALLOW)
        Representation.objects.update(etag=unusable)  # as an earlier version stored it
        assert Called(f"{server.base}/", *ALLOW).code == 0
    assert "if-none-match" not in server.asked[1].headers


def test_redirect_gets_no_variable():
    def answer(asked: Asked) -> Answer:
        redirects = asked.target == "/"
        return (
            (302, {"Location": "/env:TRAWL_TEST_VARIABLE?a=env:TRAWL_TEST_VARIABLE"}, b"")
            if redirects
            else (200, {}, b"")
        )

    with answering(answer) as server:
        Called(f"{server.base}/", *ALLOW)
    assert server.asked[1].target == "/env:TRAWL_TEST_VARIABLE?a=env:TRAWL_TEST_VARIABLE"


def test_operators_reference_is_sent_and_kept_as_a_reference():
    with answering(lambda asked: (503, {}, b"")) as server:
        Called(f"{server.base}/", *ALLOW, "--max-attempts", "1", "--header", "X-A: env:TRAWL_TEST_VARIABLE")
        Called("--retry-failed", "latest")
    assert [asked.headers["x-a"] for asked in server.asked] == [VALUE, VALUE]
    assert [run.options["headers"] for run in Run.objects.order_by("id")] == [
        [["X-A", {"env": "TRAWL_TEST_VARIABLE"}]]
    ] * 2


def test_list_that_names_a_variable_is_refused_unless_the_operator_permits_it(settings, tmp_path):
    with answering(lambda asked: (200, {}, b"")) as server:
        (tmp_path / "list.jsonl").write_text(
            json.dumps({"url": f"{server.base}/", "headers": {"X-A": "env:TRAWL_TEST_VARIABLE"}})
        )
        refused = Called("--file", f"{tmp_path}/list.jsonl", *ALLOW)
        settings.FETCHER_LIST_ENVIRONMENT = "TRAWL_TEST_VARIABLE"
        Called("--file", f"{tmp_path}/list.jsonl", *ALLOW)
    assert refused.code == 3
    assert "FETCHER_LIST_ENVIRONMENT" in refused.err
    assert [asked.headers["x-a"] for asked in server.asked] == [VALUE]
    assert Result.objects.get().target.headers == [["X-A", {"env": "TRAWL_TEST_VARIABLE"}]]


@pytest.mark.parametrize("headers", [{"X-A": "env:TRAWL_TEST_VARIABLE"}, "X-A: basic-env:TRAWL_TEST_LOGIN"])
def test_call_that_names_a_variable_is_refused(headers):
    given = {"urls": ["http://a.example/"], "options": {"headers": headers}}
    answer = Client().post("/api/v1/runs/", json.dumps(given), content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["pointer"] == "#/options/headers"
    assert "FETCHER_LIST_ENVIRONMENT" in answer.json()["detail"]
    assert not Run.objects.exists()


def test_call_cannot_name_a_file(tmp_path):
    (tmp_path / "body").write_text(VALUE)
    given = {"urls": ["http://a.example/"], "options": {"data": f"@{tmp_path}/body"}}
    assert Client().post("/api/v1/runs/", json.dumps(given), content_type="application/json").status_code == 202
    assert load_options(Run.objects.get()).data == f"@{tmp_path}/body".encode()
