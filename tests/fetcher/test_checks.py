"""Mistakes in the settings are found before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from fetcher.checks import check_settings


def test_the_settings_of_this_project_are_fine() -> None:
    assert check_settings() == []


@pytest.mark.parametrize(
    ("name", "value"), [("CONCURRENCY", "many"), ("CONCURRENCY", 0), ("PAGE_LIMIT", "x"), ("HEADERS", 7)]
)
def test_a_value_that_cannot_be_used_is_e001_and_named(settings: Settings, name: str, value: Any) -> None:
    setattr(settings, f"FETCHER_{name}", value)
    (found,) = [message for message in run_checks(tags=["fetcher"]) if message.id == "fetcher.E001"]

    assert found.msg.startswith(f"FETCHER_{name} ")
    assert found.hint


def test_options_and_other_settings_are_both_looked_at(settings: Settings) -> None:
    settings.FETCHER_CONCURRENCY = "many"
    settings.FETCHER_PAGE_LIMIT = "x"

    assert len(check_settings()) == 2
