"""What an expression finds in bodies, saved beside them."""

from __future__ import annotations

import pytest

from fetcher.engine.types import Status
from fetcher.expressions import MAX_EXTRACTED
from fetcher.extraction import parse_extract
from fetcher.models import Body, Representation, Result
from tests.support.stored import open_targets, outcome, plan, record

URL = "http://a.example/1"
JSON = (("Content-Type", "application/json"), ("ETag", '"1"'))

pytestmark = pytest.mark.django_db


def saved(expression: str | None, *, keep_bodies: bool = True, **values) -> Result:
    run = plan(URL)
    extract = None if expression is None else parse_extract(expression)
    outcomes = [outcome(target, **{"headers": JSON, **values}) for target in open_targets(run)]
    record(run, outcomes, extract=extract, keep_bodies=keep_bodies)
    return Result.objects.get(run=run)


def not_modified(expression: str | None) -> Result:
    return saved(expression, status=Status.NOT_MODIFIED, http_status=304, body=b"", headers=())


def test_is_what_the_expression_finds():
    assert saved("a", body=b'{"a": [1, "x"]}').extracted == [1, "x"]


def test_of_a_304_is_what_it_finds_in_the_stored_body():
    saved("a", body=b'{"a": 1, "b": 2}')
    assert not_modified("a").extracted == 1
    assert not_modified("b").extracted == 2


def test_of_a_304_does_not_need_an_expression_before():
    saved(None, body=b'{"a": 1}')
    assert not_modified("a").extracted == 1


def test_of_a_304_whose_body_is_gone_is_nothing():
    saved("a", body=b'{"a": 1}')
    run = plan(URL)
    targets = open_targets(run)
    Body.objects.update(content=None)
    extract = parse_extract("a")
    record(run, [outcome(targets[0], status=Status.NOT_MODIFIED, http_status=304, body=b"")], extract=extract)
    assert Result.objects.get(run=run).extracted is None


def test_too_large_a_value_is_left_out_and_said():
    found = saved("a", body=b'{"a": "' + b"x" * MAX_EXTRACTED + b'"}')
    assert found.extracted is None
    assert found.error_detail == "the extracted value is not saved: it takes more than 65536 bytes"
    assert found.error_kind is None


def test_the_largest_value_is_saved():
    found = saved("a", body=b'{"a": "' + b"x" * (MAX_EXTRACTED - 2) + b'"}')
    assert len(found.extracted) == MAX_EXTRACTED - 2


@pytest.mark.parametrize("depth", [600, 5000])
def test_of_a_deeply_nested_answer_is_nothing_and_said(depth):
    found = saved("a", body=b'{"a": ' + b"[" * depth + b"]" * depth + b"}")
    assert (found.status, found.extracted, found.error_kind) == ("succeeded", None, None)
    assert "nested" in found.error_detail


def test_a_stopped_expression_costs_its_own_value_only():
    run = plan(URL, "http://a.example/2")
    first, second = open_targets(run)
    doubled = parse_extract("|".join(["join('',[@,@])"] * 40))
    record(run, [outcome(first, headers=JSON, body=b'"aa"'), outcome(second, headers=JSON, body=b"1")], extract=doubled)
    stopped, fine = Result.objects.filter(run=run).order_by("position")
    assert (stopped.status, stopped.extracted, stopped.error_kind) == ("succeeded", None, None)
    assert stopped.error_detail.startswith("the expression was stopped")
    assert fine.error_detail == ""


def test_a_whole_number_of_any_length_is_saved():
    assert saved("a", body=b'{"a": 123456789012345678901234567890}').extracted is not None


def test_works_without_keeping_the_body():
    assert saved("a", keep_bodies=False, body=b'{"a": 1}').extracted == 1


def test_bodies_that_are_not_kept_are_compared_and_represented_once():
    saved(None, keep_bodies=False)
    assert saved(None, keep_bodies=False).changed is False
    assert Representation.objects.count() == 1
    assert saved(None, keep_bodies=False, body=b"other").changed is True


def test_of_a_body_that_was_not_kept_no_validators_are_sent():
    saved(None, keep_bodies=False)
    assert open_targets(plan(URL))[0].validators is None
