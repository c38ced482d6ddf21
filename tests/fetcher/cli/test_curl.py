"""A request as a curl line."""

from __future__ import annotations

import shlex

import pytest

from fetcher.cli.curl import curl_line
from fetcher.engine.references import EnvReference
from fetcher.payloads import RequestItem


def line(url="https://a.example/", *, method="GET", headers=None, body=None, run=(), redirects=10) -> str:
    return curl_line(RequestItem(method, url, headers or {}, body), run, redirects=redirects, deadline=60.0)


def test_is_short_for_a_plain_get():
    expected = "curl --include --max-time 60 --location --max-redirs 10 --globoff -- https://a.example/"
    assert line() == expected


@pytest.mark.parametrize(
    "url", ["https://a.example/?q='x'&y=$(rm)", "https://a.example/`id`;ls", "https://a.example/{a}[1]"]
)
def test_quotes_the_url_for_a_shell(url):
    assert shlex.split(line(url))[-1] == url


def test_has_method_headers_and_body():
    words = shlex.split(line(method="POST", headers={"X-Id": "it's"}, body=3))
    assert words[words.index("--request") + 1] == "POST"
    assert words[words.index("--header") + 1] == "x-id: it's"
    assert words[words.index("--data-binary") + 1] == "@BODY"


def test_asks_for_the_head_alone_where_that_was_asked():
    assert "--head" in line(method="HEAD")


def test_follows_no_redirect_where_none_was_followed():
    assert "--location" not in line(redirects=0)


def test_leaves_secrets_out():
    assert "'authorization: SECRET'" in line(headers={"authorization": "***"})


def test_takes_what_was_read_from_the_environment_from_the_shells():
    assert """--header 'authorization: '"$API_TOKEN" """ in line(run=[("Authorization", EnvReference("API_TOKEN"))])


def test_never_lets_a_name_of_a_variable_run():
    assert "'x-a: SECRET'" in line(run=[("X-A", EnvReference("A$(id)"))])


def test_prefers_the_targets_own_header_to_the_runs():
    found = line(run=[("Accept", "text/html")], headers={"accept": "application/json"})
    assert "application/json" in found
    assert "text/html" not in found
