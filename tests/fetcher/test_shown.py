"""URLs and headers as people read them."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from fetcher.engine.references import EnvReference
from fetcher.shown import shown_options, shown_text, shown_url, shown_value


def test_settings_add_and_spare_names(settings: Settings) -> None:
    settings.FETCHER_SECRET_PARAMETERS = "ticket_no, !code"
    assert shown_url("http://a/?ticket_no=1&code=2&key=3") == "http://a/?ticket_no=***&code=2&key=***"
    assert shown_text("see http://a/?ticket_no=1") == "see http://a/?ticket_no=***"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("X-A", "1", "1"),
        ("X-A", "env:TEXT", "env:TEXT"),
        ("X-A", None, "***"),
        ("Private-Token", "s3cret", "***"),
        ("Authorization", EnvReference("TOKEN"), "env:TOKEN"),
        ("Authorization", EnvReference("LOGIN", basic=True), "basic-env:LOGIN"),
    ],
)
def test_header_is_shown(name: str, value: str | EnvReference | None, shown: str) -> None:
    assert shown_value(name, value) == shown


def test_options_are_shown_as_text_and_leave_the_row_alone() -> None:
    stored = {"per_host": 2, "headers": [["Authorization", None], ["Cookie", {"env": "C"}], ["X-Auth-Token", "old"]]}
    assert shown_options(stored) == {
        "per_host": 2, "headers": [["Authorization", "***"], ["Cookie", "env:C"], ["X-Auth-Token", "***"]]
    }  # fmt: skip
    assert stored["headers"][0] == ["Authorization", None]  # type: ignore[index]
    assert shown_options({}) == {}
