"""References to the environment are a type of their own."""

from __future__ import annotations

import msgspec
import pytest

from fetcher.engine.config import ConfigError, operator_value, permitted_value
from fetcher.engine.references import EnvReference, RequestHeaders, parse_reference

NAME, LOGIN = EnvReference("NAME"), EnvReference("LOGIN", basic=True)


@pytest.mark.parametrize(
    ("text", "meant"), [("env:NAME", NAME), ("basic-env:LOGIN", LOGIN), ("env: a\nb", EnvReference(" a\nb"))]
)
def test_operators_text_is_read_as_a_reference_and_written_as_one(text: str, meant: EnvReference) -> None:
    assert parse_reference(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize("text", ["", "NAME", "ENV:NAME", " env:NAME", "an env:NAME", '{"env": "NAME"}', "\x00wiped"])
def test_other_text_is_text(text: str) -> None:
    assert parse_reference(text) is None
    assert operator_value("X", text) == text


def test_reference_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="the value of X names no environment variable after 'env:'"):
        operator_value("X", "env:")


def test_lists_and_calls_may_name_only_what_the_operator_permits() -> None:
    assert permitted_value("X", "env:NAME", {"NAME"}) == NAME
    assert permitted_value("X", "plain", {"NAME"}) == "plain"
    with pytest.raises(ConfigError, match="the value of X asks for the environment variable OTHER"):
        permitted_value("X", "basic-env:OTHER", {"NAME"})


@pytest.mark.parametrize(
    ("stored", "headers"),
    [
        (b'[["A","env:NAME"],["B",{"env":"NAME"}],["C",null]]', (("A", "env:NAME"), ("B", NAME), ("C", None))),
        (b'[["A",{"env":"LOGIN","basic":true}],["A",""]]', (("A", LOGIN), ("A", ""))),
    ],
)
def test_stored_text_reference_and_missing_secret_cannot_be_taken_for_each_other(
    stored: bytes, headers: RequestHeaders
) -> None:
    assert msgspec.json.decode(stored, type=RequestHeaders) == headers
    assert msgspec.json.encode(headers) == stored


@pytest.mark.parametrize(
    "stored", [b'[["A",{}]]', b'[["A",{"env":"N","more":1}]]', b'[["A",7]]', b'[["A",["env","N"]]]']
)
def test_nothing_else_is_read_as_a_value(stored: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(stored, type=RequestHeaders)
