"""What is read out of a body."""

from __future__ import annotations

import contextlib
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from fetcher.engine.bodies import SpilledBody
from fetcher.engine.types import Outcome, Status, Target
from fetcher.extraction import parse_extract, read_content

JSON = "application/json"


def outcome(body: bytes | SpilledBody | None, content_type: str = JSON) -> Outcome:
    return Outcome(
        Target("https://a.example/", "a.example:443"), Status.SUCCEEDED, 0.0, 0.0, 0.0, "https://a.example/",
        headers=(("Content-Type", content_type),), body=body,
    )  # fmt: skip


class TestExtract:
    @pytest.mark.parametrize(
        ("expression", "found"), [("args", {"a": [1, 2]}), ("args.a[1]", 2), ("args.a | length(@)", 2), ("no", None)]
    )
    def test_finds_what_the_expression_says(self, expression, found):
        assert parse_extract(expression)(outcome(b'{"args": {"a": [1, 2]}}')) == found

    @pytest.mark.parametrize("expression", ["sum(args)", "abs(args)", "sort_by(args, &x)", "args.x.y", "max_by(@, &a)"])
    def test_finds_nothing_where_the_expression_does_not_fit(self, expression):
        assert parse_extract(expression)(outcome(b'{"args": "text"}')) is None

    @pytest.mark.parametrize(
        ("expression", "found"),
        [
            ("@", {"a\ufffd": ["\ufffdb", 1, True, None, 0.5, "\\u0000"]}),
            ("&a", None),
            ("[&a, `1`]", [None, 1]),
            ("to_number('nan')", None),
            ("{x: to_number('1e999')}", {"x": None}),
            ('`"\\ud800"`', "?"),
        ],
    )
    def test_finds_only_what_every_database_can_store(self, expression, found):
        body = rb'{"a\u0000": ["\u0000b", 1, true, null, 0.5, "\\u0000"]}'
        assert parse_extract(expression)(outcome(body)) == found

    def test_finds_the_same_in_a_body_that_was_spilled(self, tmp_path):
        with contextlib.closing(SpilledBody(str(tmp_path))) as body:
            body.write([b'{"args": ', b'{"a": [1, 2]}}'])
            assert parse_extract("args.a[1]")(outcome(body)) == 2

    def test_does_not_look_at_a_spilled_body_that_is_no_json(self, tmp_path):
        with contextlib.closing(SpilledBody(str(tmp_path))) as body:
            body.write([b"{}"])
            body.close()
            assert parse_extract("@")(outcome(body, "application/zip")) is None

    @pytest.mark.parametrize(("body", "content_type"), [(None, JSON), (b"[1", JSON), (b"{}", "text/html")])
    def test_finds_nothing_in_what_is_no_json(self, body, content_type):
        assert parse_extract("@")(outcome(body, content_type)) is None


class TestParseExtract:
    @pytest.mark.parametrize("text", ["(" * 999, "!" * 1000, "[" * 999, "&" * 500])
    def test_refuses_deep_nesting_with_a_reason(self, text):
        with pytest.raises(ValueError, match=r"nested too deeply|not a JMESPath expression"):
            parse_extract(text)

    @example("``")
    @given(st.text(max_size=30))
    def test_compiles_or_refuses_any_text(self, text):
        with suppress(ValueError):
            parse_extract(text)


class TestReadContent:
    @pytest.mark.parametrize(
        ("content_type", "body", "json", "text"),
        [
            (JSON, b"[1]", [1], UNSET),
            ("Application/Problem+JSON; charset=utf-8", b"{}", {}, UNSET),
            (JSON, b"\xef\xbb\xbf[1]", [1], UNSET),
            (JSON, b"123456789012345678901", 123456789012345678901, UNSET),
            (JSON, b"null", None, UNSET),
            (JSON, b"[1", UNSET, "[1"),
            (JSON, b"[" * 100_000, UNSET, "[" * 100_000),
            ("text/html", b"caf\xc3\xa9", UNSET, "café"),
            ("text/html; charset=latin-1", b"caf\xe9", UNSET, "café"),
            ('text/html;charset="ISO-8859-1"', b"caf\xe9", UNSET, "café"),
            ("text/html; charset=nonsense", b"caf\xe9", UNSET, "caf\ufffd"),
            ("text/html; charset=zlib", b"x", UNSET, "x"),
            ("text/html; charset=idna", b"x", UNSET, "x"),
            ("text/html; charset=punycode", b"x", UNSET, "x"),
            ("application/atom+xml", b"<a/>", UNSET, "<a/>"),
            ("image/png", b"\x89PNG", UNSET, UNSET),
            ("application/octet-stream", b"abc", UNSET, UNSET),
            ("", b"abc", UNSET, "abc"),
            ("", b"a\x00c", UNSET, UNSET),
            ("", b"\xff\xfe", UNSET, UNSET),
            (JSON, None, UNSET, UNSET),
        ],
    )
    def test_reads_json_then_text_then_neither(self, content_type, body, json, text):
        assert read_content(content_type, body) == (json, text)

    @given(st.binary(max_size=50), st.text(max_size=20))
    def test_takes_any_body_under_any_charset(self, body, charset):
        read_content(f"text/plain; charset={charset}", body)
