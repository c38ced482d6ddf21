"""URLs and headers as people read them: secrets masked by the names that the settings know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from fetcher.conf import read_value
from fetcher.engine.references import EnvReference, HeaderValue
from fetcher.engine.sensitive import MASK, mask_text, mask_url, secret_headers
from fetcher.headers import load_headers


def shown_url(url: str, *, mask: str = MASK) -> str:
    """Return a URL without user name and password, the values of secret parameters masked."""
    return mask_url(url, _chosen("secret_parameters"), mask=mask)


def shown_text(text: str) -> str:
    """Return a text with every URL in it as ``shown_url`` shows it."""
    return mask_text(text, _chosen("secret_parameters"))


def shown_value(name: str, value: HeaderValue) -> str:
    """Return a header's value as it may be shown; a reference says only where the value is."""
    if isinstance(value, EnvReference):
        return str(value)
    return MASK if value is None or name in secret_headers(_chosen("secret_headers")) else value


def shown_options(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's or a job's stored options as they may be shown: each header's value is text."""
    headers = [[name, shown_value(name, value)] for name, value in load_headers(stored.get("headers"))]
    return {**stored, "headers": headers} if "headers" in stored else dict(stored)


def _chosen(name: str) -> frozenset[str]:
    found = read_value(name, getattr(settings, f"FETCHER_{name.upper()}", ""))
    assert isinstance(found, frozenset)
    return found
