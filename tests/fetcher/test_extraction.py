"""What an expression finds in the bodies of outcomes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from fetcher import sandbox
from fetcher.engine.bodies import SpilledBody
from fetcher.engine.types import Outcome, Status, Target
from fetcher.extraction import SMALL_BODY_BYTES, parse_extract

JSON = "application/json"


def outcome(body: bytes | SpilledBody | None, content_type: str = JSON) -> Outcome:
    return Outcome(
        Target("https://a.example/", "a.example:443"), Status.SUCCEEDED, 0.0, 0.0, 0.0, "https://a.example/",
        headers=(("Content-Type", content_type),), body=body,
    )  # fmt: skip


def values(expression: str, *outcomes: Outcome) -> list[Any]:
    return [found.value for found in parse_extract(expression)(outcomes)]


@pytest.mark.parametrize("expression", ["args.a[1]", "args.a | length(@)"])
def test_each_outcome_has_its_value_in_order(expression: str) -> None:
    found = values(expression, outcome(b'{"args": {"a": [1, 2]}}'), outcome(None), outcome(b'{"args": {"a": [3, 2]}}'))
    assert found == [2, None, 2]


def test_more_outcomes_than_are_sent_at_once_keep_their_order() -> None:
    assert values("[n][0]", *(outcome(b'{"n": %d}' % n) for n in range(600))) == list(range(600))


@pytest.mark.parametrize("expression", ["args.a[1]", "args.a | max(@)"])
def test_a_spilled_body_gives_the_same(tmp_path: Path, expression: str) -> None:
    with contextlib.closing(SpilledBody(str(tmp_path))) as body:
        body.write([b'{"args": ', b'{"a": [1, 2]}}'])
        assert values(expression, outcome(body)) == [2]


def test_a_spilled_body_that_is_not_json_is_not_read(tmp_path: Path) -> None:
    with contextlib.closing(SpilledBody(str(tmp_path))) as body:
        body.write([b"{}"])
        body.close()
        assert values("@", outcome(body, "application/zip")) == [None]


@pytest.mark.parametrize("expression", ["@", "[@]"])
@pytest.mark.parametrize(("body", "content_type"), [(None, JSON), (b"", JSON), (b"[1", JSON), (b"{}", "text/html")])
def test_nothing_is_found_in_what_is_not_json(expression: str, body: bytes | None, content_type: str) -> None:
    assert parse_extract(expression)([outcome(body, content_type)]) == [(None, "")]


@pytest.mark.parametrize("expression", ["a", "keys(a)"])
def test_a_body_that_is_nested_too_deeply_has_a_remark(expression: str) -> None:
    ((value, remark),) = parse_extract(expression)([outcome(b"[" * 5000 + b"]" * 5000)])
    assert (value, remark) == (None, "the expression was not applied: the answer is nested too deeply")


def test_a_path_starts_no_process_unless_a_body_is_large() -> None:
    sandbox._close_idle()
    assert values("a[0].b", *[outcome(b'{"a": [{"b": 1}]}')] * 3) == [1, 1, 1]
    assert sandbox._idle == []
    assert values("a", outcome(b'{"a": 1, "b": "' + b"x" * SMALL_BODY_BYTES + b'"}')) == [1]
    assert len(sandbox._idle) == 1


def test_an_expression_that_is_stopped_ten_times_in_a_row_is_not_applied_any_more() -> None:
    extract = parse_extract("|".join(["join('',[@,@])"] * 40))
    body = outcome(b'"' + b"a" * 2**18 + b'"')  # one at a time is sent: it is as large as a group
    remarks = [found.remark for found in extract([body] * 12, seconds=100)]
    assert all(remark.startswith("the expression was stopped") for remark in remarks[:10])
    assert remarks[10:] == ["the expression was not applied: it was stopped 10 times in a row"] * 2


def test_no_time_at_all_is_said() -> None:
    ((_, remark),) = parse_extract("[@]")([outcome(b"1")], seconds=0)
    assert remark.startswith("the expression was not applied: it took more than 0 s")


def test_values_that_are_too_large_do_not_end_the_use_of_an_expression() -> None:
    extract = parse_extract("[@, @]")
    large, small = outcome(b'"' + b"a" * 40_000 + b'"'), outcome(b"1")
    found = extract([*[large] * 12, small])
    assert "takes more than 65536 bytes" in found[11].remark
    assert found[12].value == [1, 1]
