"""Request headers as they are stored."""

from __future__ import annotations

import json

import pytest

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference, RequestHeaders
from fetcher.headers import dump_headers, load_headers, secret_values

CONFIG = FetchConfig(secret_headers=frozenset({"x-acme"}))
HEADERS: RequestHeaders = (
    ("X-A", "env:TEXT"), ("Authorization", "one"), ("Cookie", EnvReference("C")), ("X-Acme", ""), ("Token", "two"),
)  # fmt: skip


def test_secrets_are_kept_apart_and_put_in_again() -> None:
    stored, secrets = dump_headers(CONFIG, HEADERS), secret_values(CONFIG, HEADERS)
    assert stored == [
        ["X-A", "env:TEXT"], ["Authorization", None], ["Cookie", {"env": "C"}], ["X-Acme", None], ["Token", None]
    ]  # fmt: skip
    assert secrets == ("one", "", "two")
    assert load_headers(stored, secrets) == load_headers(json.dumps(stored), secrets) == HEADERS


def test_secret_that_is_missing_is_none_and_moves_no_other() -> None:
    lost: RequestHeaders = (("Authorization", None), ("Token", "two"))
    stored, secrets = dump_headers(CONFIG, lost), secret_values(CONFIG, lost)
    assert load_headers(stored, secrets) == lost
    assert load_headers(stored) == (("Authorization", None), ("Token", None))


@pytest.mark.parametrize("nothing", [None, [], "[]"])
def test_no_headers_are_none(nothing: object) -> None:
    assert load_headers(nothing) == ()
