"""What a record may ask for: methods, bodies, headers, labels."""

from __future__ import annotations

from typing import Any

import pytest

from fetcher.engine.config import MAX_HEADERS
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.references import EnvReference
from fetcher.engine.types import Target
from fetcher.sources.fields import FieldError, Fields, entry_for_fields, read_method, target_for

URL = "http://a/"


def test_a_url_alone_is_a_get() -> None:
    assert target_for(Fields(" HTTP://A/#x\n")) == Target("http://a/", "a:80")


def test_everything_reaches_the_target() -> None:
    fields = Fields(URL, "post", {"Accept": " text/html\t"}, "é", "7", retry=True)

    assert target_for(fields) == Target(
        URL, "a:80", "POST", (("Accept", "text/html"),), "é".encode(), label="7", retry=True
    )


def test_headers_as_pairs_may_repeat_a_name() -> None:
    assert target_for(Fields(URL, headers=[("A", "1"), ("a", "2")])).headers == (("A", "1"), ("a", "2"))


@pytest.mark.parametrize(
    ("text", "method"),
    [("get", "GET"), ("Post", "POST"), ("PATCH", "PATCH"), ("options", "OPTIONS"), ("PROPFIND", "PROPFIND"),
     ("QUERY", "QUERY"), ("M-SEARCH", "M-SEARCH"), ("trace", "TRACE"), ("head", "HEAD")],
)  # fmt: skip
def test_known_methods_may_be_in_small_letters_and_others_are_in_capitals(text: str, method: str) -> None:
    assert read_method(text) == method


@pytest.mark.parametrize("text", ["propfind", "GE T", "GET ", "GET\n", "GET\0", "G\u00c9T", "GET,POST", "A" * 33, "{}"])
def test_no_other_text_is_a_method(text: str) -> None:
    with pytest.raises(FieldError, match=r"method: .* is no method; write GET, POST, … or another name in capitals"):
        read_method(text)


@pytest.mark.parametrize("text", ["CONNECT", "connect"])
def test_a_tunnel_cannot_be_fetched(text: str) -> None:
    with pytest.raises(FieldError, match="method: CONNECT asks a proxy for a tunnel"):
        read_method(text)


@pytest.mark.parametrize("method", [None, "GET", "POST", "DELETE", "QUERY"])
def test_a_request_may_have_a_body(method: str | None) -> None:
    assert target_for(Fields(URL, method, body="{}")).body == b"{}"


@pytest.mark.parametrize("method", ["HEAD", "TRACE"])
@pytest.mark.parametrize("body", ["x", ""])
def test_but_not_where_the_standard_forbids_it(method: str, body: str) -> None:
    with pytest.raises(FieldError, match=f"body: a {method} request has none"):
        target_for(Fields(URL, method, body=body))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (Fields(""), "url: is empty"),
        (Fields(" \n"), "url: is empty"),
        (Fields(URL, headers={"a b": "1"}), "headers: 'a b' is not a header name"),
        (Fields(URL, headers={"": "1"}), "headers: '' is not a header name"),
        (Fields(URL, headers={"A": "1\r\nB: 2"}), "headers: the value of A has a line break"),
        (Fields(URL, headers={"Host": "b"}), "headers: the header Host is set by Trawl itself"),
        (Fields(URL, headers={"A": "x" * MAX_HEADERS}), "headers: are longer than 65536 characters together"),
        (Fields(URL, label="x" * 201), "label: is longer than 200 characters"),
        (Fields(URL, label="a\0b"), "label: has a line break or another control character"),
        (Fields(URL, label="a\nb"), "label: has a line break or another control character"),
    ],
)
def test_a_reason_begins_with_the_field(fields: Fields, reason: str) -> None:
    with pytest.raises(FieldError) as caught:
        target_for(fields)

    assert str(caught.value).startswith(reason)


def test_a_url_is_judged_as_everywhere() -> None:
    with pytest.raises(InvalidUrl, match="has no scheme"):
        target_for(Fields("example.com"))


def test_a_rejection_shows_the_url_and_nothing_else() -> None:
    entry = entry_for_fields("f", 3, Fields("http://joe:s3cret@a/", headers={"Authorization": "s3cret"}, body="s3cret"))

    assert (entry.where, entry.value) == ("f:3", "http://***@a/")
    assert "s3cret" not in entry.reason


def test_nor_does_the_reason_repeat_a_header_value() -> None:
    entry = entry_for_fields("f", 3, Fields(URL, headers={"Authorization": "s3cret\n"}))

    assert "s3cret" not in entry.reason


class TestEnvironment:
    FIELDS = Fields("http://a/", headers={"Authorization": "env:API_TOKEN"})

    def test_a_list_may_not_read_variables(self) -> None:
        entry = entry_for_fields("list", 1, self.FIELDS)

        assert entry.target is None
        assert entry.reason == (
            "headers: the value of Authorization asks for the environment variable API_TOKEN, which a list or a call "
            "may use only where FETCHER_LIST_ENVIRONMENT names it"
        )

    def test_but_those_that_the_operator_named(self, settings: Any) -> None:
        settings.FETCHER_LIST_ENVIRONMENT = "OTHER API_TOKEN"

        assert target_for(self.FIELDS).headers == (("Authorization", EnvReference("API_TOKEN")),)
