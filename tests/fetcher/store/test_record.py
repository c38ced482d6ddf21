"""Outcomes to results, bodies and counters."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec
import pytest

from fetcher.bodies import read_body
from fetcher.details import decode_detail
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Status
from fetcher.extraction import Found, parse_extract
from fetcher.models import Body, Lane, Representation, Result
from fetcher.payloads import result_items, run_items
from fetcher.store import runs
from fetcher.store.plan import Planner
from tests.support.stored import entries, fetch, open_targets, outcome, plan, record

URL = "http://a.example/1"
ETAG = (("ETag", '"v1"'), ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"), ("Content-Type", "text/plain"))
FAILED = {"status": Status.FAILED, "error_kind": ErrorKind.TIMEOUT, "error_detail": "late", "body": None}

pytestmark = pytest.mark.django_db


def one(body: bytes | None = b"content", **values) -> Result:
    """Fetch the URL once more with this outcome and return the result."""
    return Result.objects.get(run=fetch(URL, body=body, **values))


class TestRecording:
    def test_returns_the_ids_in_the_order_of_the_outcomes(self):
        run = plan(URL, "http://b.example/", "http://a.example/2")
        targets = open_targets(run)[::-1]
        assert record(run, map(outcome, targets)) == [target.key.result for target in targets]

    def test_of_a_repeated_batch_changes_nothing(self):
        run = plan(URL, "http://b.example/")
        batch = [outcome(target) for target in open_targets(run)]
        record(run, batch)
        before = list(Result.objects.values()), list(Lane.objects.values()), list(Body.objects.values())
        assert record(run, batch) == []
        assert (list(Result.objects.values()), list(Lane.objects.values()), list(Body.objects.values())) == before

    def test_of_a_batch_that_was_recorded_in_part_adds_the_rest(self):
        run = plan(URL, "http://b.example/")
        first, second = (outcome(target) for target in open_targets(run))
        record(run, [first])
        assert record(run, [first, second]) == [second.target.key.result]
        assert Result.objects.count() == 2

    def test_keeps_the_lanes_counters_equal_to_the_results(self):
        run = plan(*(f"http://h{number}.example/" for number in range(12)))
        endings = [
            {},
            {"status": Status.NOT_MODIFIED, "http_status": 304, "body": b""},
            FAILED,
            {**FAILED, "status": Status.SKIPPED},
        ]
        targets = open_targets(run)
        record(run, [outcome(target, **endings[place % 4]) for place, target in enumerate(targets[:10])])
        item = run_items(runs.Run.objects.filter(pk=run))[0]
        assert (item.succeeded, item.not_modified, item.failed, item.skipped) == (3, 3, 2, 2)
        assert (item.total, item.pending, item.bytes) == (12, 2, 3 * len(b"content"))
        assert item.total == Result.objects.filter(run=run).count() + runs.pending(run)

    def test_keeps_the_times(self):
        result = one(started_at=1_700_000_000.25, finished_at=1_700_000_002.5, elapsed=2.25)
        assert result.started_at == datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)
        assert result.elapsed_us == 2_250_000

    def test_keeps_a_final_url_only_where_it_differs(self):
        assert one().final_url is None
        assert one(final_url="http://b.example/").final_url == "http://b.example/"

    def test_keeps_the_label(self):
        run = runs.create_run(FetchConfig())
        entry = entries(URL)[0]
        Planner(run).add([msgspec.structs.replace(entry, target=msgspec.structs.replace(entry.target, label="né\x00"))])
        record(run, map(outcome, open_targets(run)))
        assert Result.objects.get().label == "né\ufffd"


class TestChanged:
    def test_is_unknown_the_first_time(self):
        assert one().changed is None

    @pytest.mark.parametrize(("body", "changed"), [(b"content", False), (b"other", True), (b"", True)])
    def test_compares_with_the_previous_good_body(self, body, changed):
        one()
        assert one(body).changed is changed

    def test_is_unknown_on_a_failure_even_with_a_body(self):
        one()
        failure = {**FAILED, "error_kind": ErrorKind.HTTP_STATUS, "http_status": 404, "body": b"not here"}
        assert one(**failure).changed is None

    def test_passes_over_failures_in_between(self):
        one()
        one(**{**FAILED, "body": b"an error page"})
        assert one().changed is False

    def test_is_false_on_not_modified(self):
        one(headers=ETAG)
        assert one(b"", status=Status.NOT_MODIFIED, http_status=304).changed is False

    def test_compares_with_what_a_not_modified_result_carried_on(self):
        one(headers=ETAG)
        one(b"", status=Status.NOT_MODIFIED, http_status=304)
        assert one().changed is False


class TestNotModified:
    def not_modified(self, headers=()) -> Result:
        return one(b"", status=Status.NOT_MODIFIED, http_status=304, headers=headers)

    def test_carries_body_validators_and_type_on(self):
        first = one(headers=ETAG)
        second = self.not_modified()
        assert second.representation == first.representation
        found = second.representation
        assert (found.etag, found.last_modified, found.content_type) == tuple(value for _, value in ETAG)
        assert found.body is not None
        assert second.bytes == 0

    def test_carries_them_on_over_several(self):
        first = one(headers=ETAG)
        self.not_modified()
        assert self.not_modified().representation == first.representation

    def test_takes_a_newer_etag_from_the_304(self):
        first = one(headers=ETAG)
        second = self.not_modified(headers=(("ETag", 'W/"v1"'),))
        assert second.representation.etag == 'W/"v1"'
        assert second.representation.body == first.representation.body

    def test_carries_nothing_on_where_the_condition_was_the_targets_own(self):
        one()  # without validators: what the 304 compares with is not ours
        assert self.not_modified().representation is None


class TestRepresentations:
    def test_are_shared_by_results_that_found_the_same(self):
        first = one(headers=ETAG)
        assert one(headers=ETAG).representation == first.representation
        assert Representation.objects.get().pk == first.pk

    @pytest.mark.parametrize(
        "other", [{"body": b"other"}, {"headers": ETAG[1:]}, {"headers": (*ETAG[:2], ("Content-Type", "text/html"))}]
    )
    def test_are_new_where_anything_differs(self, other):
        first = one(headers=ETAG)
        second = one(**{"headers": ETAG, **other})
        assert second.representation_id == second.pk != first.pk

    def test_of_failures_are_their_own(self):
        first = one()
        failure = {**FAILED, "error_kind": ErrorKind.HTTP_STATUS, "http_status": 404, "body": b"content"}
        assert one(**failure).representation != first.representation


class TestBodies:
    def test_are_stored_once_over_targets_and_runs(self):
        fetch("http://a.example/1", "http://a.example/2", body=b"same")
        fetch("http://a.example/1", body=b"same")
        assert Body.objects.count() == 1
        assert Result.objects.filter(representation__body=Body.objects.get()).count() == 3

    def test_of_failures_are_stored_too(self):
        result = one(b"what went wrong", **{k: v for k, v in FAILED.items() if k != "body"})
        assert read_body(result.representation.body) == b"what went wrong"

    def test_that_are_empty_are_known_as_such(self):
        result = one(b"")
        body = result.representation.body
        assert (read_body(body), body.sha256, result.bytes) == (b"", hashlib.sha256().digest(), 0)

    def test_that_did_not_come_are_none(self):
        assert one(**FAILED).representation is None


class TestWhatServersSend:
    def test_set_cookie_is_never_stored(self):
        headers = (("Set-Cookie", "session=1"), ("SET-COOKIE2", "session=1"), ("X-A", "1"))
        assert decode_detail(one(headers=headers).detail).headers == (("X-A", "1"),)

    @pytest.mark.parametrize("odd", ["nul\x00", "\ud800half", "\x1b[31m", "é" * 10_000, "\U0001f600"])
    def test_odd_characters_are_stored(self, odd):
        attempt = Attempt(1, 0.0, 0.0, error_detail=odd)
        one(error_detail=odd, headers=(("Content-Type", odd),), attempts=(attempt,))
        kept = odd.translate({0: "\ufffd", 0xD800: "?"})
        result = Result.objects.get()
        assert (result.error_detail, result.representation.content_type) == (kept, kept)
        detail = decode_detail(result.detail)
        assert detail.attempts[0].error_detail == odd.translate({0xD800: "?"})
        assert detail.headers[0] == ("Content-Type", odd.translate({0xD800: "?"}))

    @pytest.mark.parametrize(
        "unusable", ["nul\x00", "\x1b[31m", '"a"\r\n b', "\U0001f600", "*", '"' + "e" * 60_000 + '"']
    )
    def test_validators_that_cannot_be_sent_back_are_not_stored(self, unusable):
        found = one(headers=(("ETag", unusable), ("Last-Modified", unusable))).representation
        assert (found.etag, found.last_modified) == ("", "")

    @pytest.mark.parametrize("lenient", ['"a"', 'W/"a b"', "without-quotes", '"obs-text \xe9"', "env:DATABASE_URL"])
    def test_validators_that_can_be_sent_back_are_stored_as_they_are(self, lenient):
        assert one(headers=(("ETag", lenient),)).representation.etag == lenient

    @pytest.mark.parametrize(
        ("expression", "stored"),
        [
            (r'{a: `"nul\u0000"`}', {"a": "nul\ufffd"}),
            (r'`{"k\u0000": ["\ud800"]}`', {"k\ufffd": ["?"]}),
            ("[to_number('nan'), to_number('1e999'), `1.5`]", [None, None, 1.5]),
            ("`0`", 0),
            ("`false`", False),
            ('`""`', ""),
            (f"`{10**30}`", 10**30),
            (f"`{10**900}`", 10**900),
            ("`null`", None),
        ],
    )
    def test_extracted_values_are_stored_as_far_as_json_can(self, expression, stored):
        run = plan(URL)
        headers = (("Content-Type", "application/json"),)
        outcomes = [outcome(target, headers=headers, body=b"{}") for target in open_targets(run)]
        record(run, outcomes, extract=parse_extract(expression))
        assert Result.objects.get().extracted == stored
        assert result_items([Result.objects.get().pk])[0].extracted == stored

    def test_remarks_of_a_success_are_stored_together(self):
        run = plan(URL)
        answers = [outcome(target, error_detail="the coding is unknown") for target in open_targets(run)]
        record(run, answers, extract=lambda outcomes: [Found(None, "the expression was stopped") for _ in outcomes])

        stored = Result.objects.get()
        assert stored.status == "succeeded"
        assert stored.error_detail == "the coding is unknown; the expression was stopped"
