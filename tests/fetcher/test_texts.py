"""Text from elsewhere, made fit for every database and for UTF-8."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.texts import check_label, clean_json, clean_text, did_you_mean


@pytest.mark.parametrize(
    ("text", "clean"),
    [("plain é", "plain é"), ("a\x00b", "a\N{REPLACEMENT CHARACTER}b"), ("half \ud800", "half ?"), ("", "")],
)
def test_text_loses_only_what_cannot_be_kept(text, clean):
    assert clean_text(text) == clean


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (object(), None),
        ((1, 2.5, True, None), [1, 2.5, True, None]),
        ({"k\x00": ["\ud800"]}, {"k\N{REPLACEMENT CHARACTER}": ["?"]}),
    ],
)
def test_what_is_no_json_becomes_null(value, clean):
    assert clean_json(value) == clean


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_whatever_comes_out_is_json_in_utf_8(value):
    cleaned = clean_json(value)
    assert json.loads(json.dumps(cleaned, allow_nan=False, ensure_ascii=False).encode()) == cleaned


@pytest.mark.parametrize(
    "text", ["a\nb", "a\rb", "\x1b[2J", "a\x7f", "a\x9b31m", "a\u2028b", "a\u202eb", "\u2066", "x" * 201]
)
def test_label_of_more_than_a_line_of_plain_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be at most 200|has a line break"):
        check_label(text)


@pytest.mark.parametrize("text", ["", "nightly", "t\xe4glich \u65e5\u672c\u3000", "x" * 200])
def test_label_is_returned_as_it_is(text: str) -> None:
    assert check_label(text) == text


@pytest.mark.parametrize(
    ("word", "prefix", "found"),
    [
        ("dead_line", "", "; did you mean deadline?"),
        ("FETCHER_GRACEE", "FETCHER_", "; did you mean FETCHER_GRACE?"),
        ("FETCHER_XYZ", "FETCHER_", ""),
        ("colour", "", ""),
        ("", "", ""),
        ("x" * 100_000, "", ""),
    ],
)
def test_did_you_mean_suggests_only_what_is_similar(word, prefix, found):
    known = [f"{prefix}{name}" for name in (("GRACE", "PROXY") if prefix else ("deadline", "grace"))]
    assert did_you_mean(word, known, prefix) == found
