"""Mistakes in the settings, found by ``manage.py check`` and before every command."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register

from fetcher import conf
from fetcher.engine.config import ConfigError


@register("fetcher")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: a ``FETCHER_`` setting has a value that cannot be used."""
    found: list[CheckMessage] = []
    for read in (conf.fetch_config, conf.fetcher_settings):
        try:
            read()
        except ConfigError as exc:
            found.append(
                Error(str(exc), hint="Change it in the settings or in the environment.", id="fetcher.E001"),
            )
    return found
