"""The shapes that readers get."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher import payloads
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Redirect, Timings
from fetcher.models import Result, Run
from fetcher.texts import COMMANDS
from tests.rows import NOON, detail_of, make_body, make_result, make_run, make_shard, make_target

SECRET = "s3cret-value"


class TestShapes:
    RESULT = (
        "id", "run", "position", "url", "final_url", "method", "host", "label", "status", "http_status", "error_kind",
        "error_detail", "attempts", "started_at", "finished_at", "elapsed_ms", "bytes", "content_type", "body_sha256",
        "body_url", "changed", "extracted",
    )  # fmt: skip

    def test_a_result_in_a_list_has_the_agreed_names_in_order(self):
        assert payloads.ResultItem.__struct_fields__ == self.RESULT

    def test_a_result_alone_adds_to_them(self):
        added = ("headers", "redirects", "attempt_log", "timings", "request")
        assert payloads.ResultDetail.__struct_fields__ == self.RESULT + added

    def test_a_run_has_the_agreed_names_in_order(self):
        assert payloads.RunItem.__struct_fields__ == (
            "id", "label", "state", "job", "source", "created_at", "started_at", "finished_at", "total", "pending",
            "succeeded", "not_modified", "failed", "skipped", "duplicates", "rejected", "bytes", "error",
            "options",
        )  # fmt: skip


class TestTimestamp:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (NOON, "2026-03-01T12:00:00.123Z"),
            (datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))), "2026-02-28T22:30:00.000Z"),
        ],
    )
    def test_is_utc_with_milliseconds(self, value, text):
        assert payloads.timestamp(value) == text


@pytest.mark.django_db
class TestResultItems:
    def test_says_everything_of_a_result(self):
        run = make_run()
        body = make_body(b"{}")
        result = make_result(
            run,
            "https://example.com/a?b=1",
            label="first",
            position=7,
            final_url="https://example.com/c",
            bytes=2,
            body=body,
            content_type="application/json",
            changed=True,
            extracted={"a": [1]},
            attempts=2,
        )
        [item] = payloads.result_items([result.pk])
        assert json.loads(payloads.encode(item)) == {
            "id": result.pk,
            "run": run.pk,
            "position": 7,
            "url": "https://example.com/a?b=1",
            "final_url": "https://example.com/c",
            "method": "GET",
            "host": "example.com:443",
            "label": "first",
            "status": "succeeded",
            "http_status": 200,
            "error_kind": None,
            "error_detail": None,
            "attempts": 2,
            "started_at": "2026-03-01T12:00:00.123Z",
            "finished_at": "2026-03-01T12:00:00.373Z",
            "elapsed_ms": 250.123,
            "bytes": 2,
            "content_type": "application/json",
            "body_sha256": hashlib.sha256(b"{}").hexdigest(),
            "body_url": f"/api/v1/results/{result.pk}/body/",
            "changed": True,
            "extracted": {"a": [1]},
        }

    def test_says_null_for_what_is_not_known(self):
        result = make_result(make_run(), "https://example.com/", http_status=None, status="failed")
        [item] = payloads.result_items([result.pk])
        nulls = {name for name in item.__struct_fields__ if getattr(item, name) is None}
        assert nulls == {
            "label", "http_status", "error_detail", "content_type", "body_sha256", "body_url", "changed", "extracted",
        }  # fmt: skip
        assert item.final_url == item.url

    def test_tells_the_hash_but_no_address_of_a_body_that_was_not_kept(self):
        result = make_result(make_run(), body=make_body(b"x", content=None))
        [item] = payloads.result_items([result.pk])
        assert item.body_sha256 == hashlib.sha256(b"x").hexdigest()
        assert item.body_url is None

    @pytest.mark.parametrize("where", [{}, {"content": None, "file": "bodies/x"}])
    def test_tells_the_address_of_a_body_that_was_kept(self, where):
        result = make_result(make_run(), body=make_body(b"", **where))
        assert payloads.result_items([result.pk])[0].body_url == f"/api/v1/results/{result.pk}/body/"

    def test_keeps_the_order_asked_in_one_query(self, django_assert_num_queries):
        run = make_run()
        ids = [make_result(run, f"https://example.com/{index}").pk for index in range(4)]
        asked = [ids[2], ids[0], 5, ids[3]]
        with django_assert_num_queries(1):
            items = payloads.result_items(asked)
        assert [item.id for item in items] == [ids[2], ids[0], ids[3]]

    @pytest.mark.urls("tests.fetcher.no_urls")
    def test_has_no_body_address_where_the_api_is_not_mounted(self):
        result = make_result(make_run(), body=make_body(b"x"))
        assert payloads.result_items([result.pk])[0].body_url is None


@pytest.mark.django_db
class TestResultDetail:
    def test_tells_headers_redirects_and_attempts(self):
        target = make_target("https://example.com/a")
        detail = detail_of(
            target,
            started_at=NOON.timestamp(),
            headers=(("Content-Type", "text/html"), ("Link", "<a>"), ("link", "<b>"), ("Set-Cookie", "a=1")),
            redirects=(Redirect(301, "https://example.com/a", "https://example.com/b"),),
            attempts=(
                Attempt(1, NOON.timestamp(), 0.5, error_kind=ErrorKind.TIMEOUT, error_detail="slow", waited=0.25,
                        wait_reason="backoff"),
                Attempt(2, NOON.timestamp() + 1, 0.1234567, address="192.0.2.1:443", http_version="HTTP/2",
                        http_status=200, timings=Timings(dns=0.001, total=0.12)),
            ),
        )  # fmt: skip
        result = make_result(make_run(), "https://example.com/a", detail=detail)
        shown = json.loads(payloads.encode(payloads.result_detail(result.pk)))
        assert shown["headers"] == {"content-type": "text/html", "link": "<a>, <b>"}
        assert shown["redirects"] == [
            {"status": 301, "url": "https://example.com/a", "location": "https://example.com/b"}
        ]
        nothing = {"dns_ms": None, "connect_ms": None, "tls_ms": None, "first_byte_ms": None, "total_ms": 500.0}
        assert shown["timings"] == {**nothing, "dns_ms": 1.0, "total_ms": 123.457}
        assert shown["attempt_log"][0] == {
            "number": 1,
            "started_at": "2026-03-01T12:00:00.123Z",
            "elapsed_ms": 500.0,
            "address": None,
            "http_version": None,
            "http_status": None,
            "error_kind": "timeout",
            "error_detail": "slow",
            "waited_ms": 250.0,
            "wait_reason": "backoff",
            "timings": nothing,
        }
        assert shown["attempt_log"][1]["elapsed_ms"] == 123.457

    def test_masks_secrets_of_the_request_and_tells_no_body(self, settings):
        settings.FETCHER_SECRET_HEADERS = "x-token"
        target_headers = [
            ["Authorization", f"Bearer {SECRET}"], ["X-Token", SECRET], ["X-Env", {"env": SECRET}], ["Accept", "a/b"],
        ]  # fmt: skip
        result = make_result(make_run(), "https://example.com/", method="POST", headers=target_headers)
        result.target.body = SECRET.encode()
        result.target.save()
        shown = payloads.result_detail(result.pk)
        assert json.loads(payloads.encode(shown))["request"] == {
            "method": "POST",
            "url": "https://example.com/",
            "headers": {"authorization": "***", "x-token": "***", "x-env": "***", "accept": "a/b"},
            "body_bytes": len(SECRET),
        }
        assert SECRET.encode() not in payloads.encode(shown)

    def test_of_a_result_without_attempts_has_no_timings(self):
        result = make_result(make_run(), status="skipped", attempts=0)
        shown = payloads.result_detail(result.pk)
        assert shown is not None
        assert (shown.timings, shown.attempt_log, shown.headers) == (None, [], {})

    def test_of_none_is_none(self):
        assert payloads.result_detail(1) is None


class TestShownHeaders:
    def test_one_secret_value_masks_the_name_whatever_else_it_carried(self):
        pairs = [("X-Api-Key", SECRET), ("x-api-key", SECRET)]
        assert payloads.shown_headers(pairs) == {"x-api-key": "***"}


@pytest.mark.django_db
class TestRunItems:
    def test_asks_once_for_all_lanes_and_once_for_ended_processes(self, django_assert_num_queries):
        first, second = make_run(label="one", job_name="feeds", source="urls.txt", rejected=2), make_run()
        make_result(first, "https://a.example/", bytes=10)
        make_result(first, "https://b.example/", bytes=5, status="not_modified")
        make_result(first, "https://c.example/", status="failed")
        make_result(second, "https://d.example/", status="skipped")
        lane = first.lanes.first()
        lane.planned += 4
        lane.save()
        with django_assert_num_queries(3):
            items = payloads.run_items(Run.objects.order_by("-id"))
        assert [item.id for item in items] == [second.pk, first.pk]
        assert json.loads(payloads.encode(items[1])) == {
            "id": first.pk,
            "label": "one",
            "state": "completed",
            "job": "feeds",
            "source": "urls.txt",
            "created_at": "2026-03-01T12:00:00.123Z",
            "started_at": None,
            "finished_at": None,
            "total": 7,
            "pending": 4,
            "succeeded": 1,
            "not_modified": 1,
            "failed": 1,
            "skipped": 0,
            "duplicates": 0,
            "rejected": 2,
            "bytes": 15,
            "error": None,
            "options": {"concurrency": 100},
        }

    def test_counts_nothing_for_a_run_without_lanes(self):
        make_run()
        [item] = payloads.run_items(Run.objects.all())
        assert (item.total, item.pending, item.bytes) == (0, 0, 0)


@pytest.mark.django_db
def test_rows_load_no_content_of_bodies(django_assert_num_queries):
    make_result(make_run(), shard=make_shard(make_run()))
    sql = str(payloads.result_rows(Result.objects.all()).query)
    assert '"fetcher_body"."content"' not in sql.replace('"fetcher_body"."content" IS NOT NULL', "")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=10,
)


class TestEncode:
    @given(JSON_VALUES)
    def test_makes_valid_json_of_whatever_was_extracted(self, value):
        def refuse(constant):
            raise AssertionError(constant)

        json.loads(payloads.encode({"extracted": value}).decode(), parse_constant=refuse)

    def test_replaces_half_a_surrogate_pair(self):
        assert json.loads(payloads.encode({"a\ud800": ["b\udfff", "ok"]})) == {"a?": ["b?", "ok"]}

    def test_puts_a_line_on_a_line(self):
        assert payloads.encode_line({"a": "b\nc"}) == b'{"a":"b\\nc"}\n'

    def test_a_time_in_utc_is_not_shifted(self):
        assert payloads.timestamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


@given(st.text())
def test_json_has_nothing_that_a_terminal_obeys_and_reads_back_the_same(text):
    shown = payloads.encode_line([text])
    assert json.loads(shown) == [text.encode(errors="replace").decode()]
    assert not re.search(f"[{COMMANDS}]", shown.decode().rstrip("\n"))


@pytest.mark.parametrize(
    "character", ["\x7f", "\x80", "\x9b", "\x9f", "\u061c", "\u200e", "\u2028", "\u202e", "\u2069"]
)
def test_json_escapes_what_a_terminal_obeys(character):
    assert payloads.encode(f"a{character}\xe9") == f'"a\\u{ord(character):04x}\xe9"'.encode()
