"""Cursors are opaque, and only what we gave is taken back."""

from __future__ import annotations

import base64
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.api.errors import Problem
from fetcher.api.pagination import decode_cursor, default_limit, encode_cursor, read_limit


def crafted(value) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(value)).rstrip(b"=").decode()


@given(st.text(max_size=30), st.integers(0, 2**63 - 1))
def test_a_cursor_gives_back_its_key(kind, key):
    assert decode_cursor(kind, encode_cursor(kind, key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "====", "%%%", "ünïcode", encode_cursor("runs", 5)[:-3], encode_cursor("runs", 5) + "AAAA",
        crafted(["runs"]), crafted(["runs", -1]), crafted(["runs", 2**63]), crafted(["runs", "5"]),
        crafted(["runs", 5, 5]), crafted({"kind": "runs", "key": 5}), crafted(5), encode_cursor("results:1", 5),
    ],
)  # fmt: skip
def test_a_cursor_that_is_not_of_this_list_is_a_400_that_names_it(text):
    with pytest.raises(Problem) as raised:
        decode_cursor("runs", text)
    assert (raised.value.status, raised.value.members) == (400, {"parameter": "cursor"})


@given(st.text(max_size=60))
def test_no_text_at_all_is_more_than_a_400(text):
    with suppress(Problem):
        decode_cursor("runs", text)


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("100", 100), ("1001", 1000), ("9" * 18, 1000)])
def test_a_limit_is_cut_to_the_largest_page(text, limit):
    assert read_limit(text) == limit


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "ten", "\u0661", "9" * 5000])
def test_a_limit_that_is_no_count_is_refused(text):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        read_limit(text)


def test_a_small_page_limit_holds_without_a_limit_too(settings):
    settings.FETCHER_PAGE_LIMIT = 7
    assert default_limit() == 7
