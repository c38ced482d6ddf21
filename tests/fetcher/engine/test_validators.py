"""Which validators of a server are kept and sent back to it."""

from __future__ import annotations

import pytest

from fetcher.engine.request_headers import conditional_headers
from fetcher.engine.types import Validators
from fetcher.engine.validators import MAX_VALIDATOR, usable_validator


@pytest.mark.parametrize(
    "text",
    [
        '"a"', 'W/"a"', '""', "a", '"a b"', '"caf\xe9"', "Sun, 06 Nov 1994 08:49:37 GMT", "env:DATABASE_URL",
        "basic-env:LOGIN", '"' + "e" * (MAX_VALIDATOR - 2) + '"', '"*"',
    ],
)  # fmt: skip
def test_validator_that_can_be_sent_is_sent_as_it_is(text: str) -> None:
    assert usable_validator(text) == text
    assert conditional_headers(Validators(text, "", "http://a/")) == (("If-None-Match", text),)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "*", ' "a"', '"a"\t', '"a\x00"', '"a\x7f"', '"a\r\n b"', '"a\n"', '"\u20ac"', "\ufffd",
        '"' + "e" * (MAX_VALIDATOR - 1) + '"', "e" * 60_000,
    ],
)  # fmt: skip
def test_validator_that_cannot_be_sent_is_none(text: str) -> None:
    assert usable_validator(text) == ""
    assert conditional_headers(Validators(text, text, "http://a/")) == ()
