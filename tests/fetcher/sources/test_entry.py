"""What a source yields, and what of a rejected line may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.types import Target
from fetcher.sources.entry import Entry, entry_for_url, redacted


def test_a_url_becomes_a_target_normalised() -> None:
    entry = entry_for_url("urls.txt", 3, "HTTP://Example.com/a#b")

    assert entry == Entry("urls.txt", 3, Target("http://example.com/a", "example.com:80"))
    assert entry.where == "urls.txt:3"


def test_anything_else_becomes_its_rejection() -> None:
    entry = entry_for_url("urls.txt", 3, "example.com")

    assert (entry.target, entry.value, entry.reason) == (
        None,
        "example.com",
        "has no scheme; write https://example.com",
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://joe:s3cret@example.com/a?b", "https://***@example.com/a?b"),
        ("https://joe@example.com/", "https://***@example.com/"),
        ("HTTPS://joe:s3cret@example.com/", "HTTPS://***@example.com/"),
        ("//joe:s3cret@example.com/", "//***@example.com/"),
        ("http:/joe:s3cret@example.com/", "http:/***@example.com/"),
        ("joe:s3cret@example.com/", "***@example.com/"),
        ("joe.doe:s3cret@example.com", "***@example.com"),
        ("http://joe:s3/c?r#et@example.com/", "http://***@example.com/"),
        ("http://joe:s3@cret@example.com/", "http://***@example.com/"),
        ("http://joe:s3\ncret@example.com/", "http://***@example.com/"),
        ("http://a b/", "http://a b/"),
        ("ftp://example.com/", "ftp://example.com/"),
        ("a\x00b\x1b[31m", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_rejected_text_is_shown_without_names_passwords_and_control_characters(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text", ["joe.doe:s3cret@example.com", "http://joe:s3cret@example.com", "http://joe:s3/cret@example.com", "s3:s3@x"]
)
def test_neither_value_nor_reason_repeats_a_password(text: str) -> None:
    entry = entry_for_url("urls.txt", 1, text)

    assert entry.target is None
    assert "s3" not in entry.value
    assert "s3cret" not in entry.reason


@given(st.text(max_size=300))
def test_what_is_shown_is_printable_and_short(text: str) -> None:
    shown = redacted(text)

    assert shown.isprintable()
    assert len(shown) <= 201
