"""Hosts named by patterns."""

from __future__ import annotations

import pytest

from fetcher.engine.named_hosts import check_pattern, is_named
from fetcher.engine.urls import parse_url


@pytest.mark.parametrize(
    ("pattern", "url", "named"),
    [
        ("api.example.com", "https://api.example.com/x", True),
        ("API.Example.com", "https://api.example.com/", True),
        ("api.example.com", "http://api.example.com/", False),
        ("api.example.com", "https://api.example.com:8443/", False),
        ("api.example.com", "http://api.example.com:443/", False),
        ("api.example.com", "https://b.api.example.com/", False),
        ("api.example.com", "https://api.example.com.evil.example/", False),
        ("api.example.com:8443", "https://api.example.com:8443/", True),
        ("api.example.com:8443", "https://api.example.com/", False),
        ("api.example.com:80", "http://api.example.com/", True),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://evilexample.com/", False),
        ("*.example.com:8080", "http://a.example.com:8080/", True),
        ("b\u00fccher.example", "https://xn--bcher-kva.example/", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/", True),
        ("[::1]:8000", "http://[::1]:8000/", True),
        ("*", "http://anything.example:81/", True),
    ],
)
def test_is_named(pattern: str, url: str, named: bool) -> None:
    check_pattern(pattern)
    assert is_named(parse_url(url), [pattern]) is named


def test_no_pattern_names_no_host() -> None:
    assert not is_named(parse_url("https://a.example/"), [])


@pytest.mark.parametrize(
    "pattern", ["", "https://a.example", "a.example/x", "a b", "*.", "a.*.example", "u:p@a.example", "**"]
)
def test_what_is_not_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="must be hosts such as"):
        check_pattern(pattern)
