"""Expressions, compiled and evaluated within bounds."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fetcher.expressions import (
    MAX_DEPTH,
    MAX_EXPRESSION,
    MAX_EXTRACTED,
    NotExtracted,
    compile_expression,
    evaluate,
    is_json_text,
    is_path,
)

HOSTILE = (
    "(" * 999, "!" * 1000, "[" * 999, "&" * 500, "a." * 499 + "a", "a|" * 499 + "a", "[@," * 200 + "@" + "]" * 200,
    "`" + "[" * 499 + "]" * 499 + "`", "a[?" * 300, "{a:" * 200 + "@" + "}" * 200, "`\\" * 499, "*." * 499 + "*",
    "f(" * 300 + ")" * 300, "`" + "1" * 990 + "`", "a||" * 332 + "a", "@&&" * 332 + "@", "a==" * 332 + "a",
)  # fmt: skip


def value(expression: str, body: bytes) -> Any:
    return evaluate(compile_expression(expression), body)


class TestCompileExpression:
    @pytest.mark.parametrize("text", ["(" * 999, "!" * 1000, "[" * 999, "&" * 500])
    def test_deep_nesting_is_refused_with_a_reason(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"nested too deeply|not a JMESPath expression"):
            compile_expression(text)

    def test_a_long_expression_is_refused_unread(self) -> None:
        with pytest.raises(ValueError, match="must be at most 1000 characters long, not 1001"):
            compile_expression("a" * (MAX_EXPRESSION + 1))

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_hostile_expression_is_read_or_refused_within_50_ms(self, text: str) -> None:
        best = 1.0
        for _ in range(5):
            began = time.thread_time()
            with suppress(ValueError):
                compile_expression(text)
            best = min(best, time.thread_time() - began)
        assert best < 0.05

    @example("``")
    @given(st.text(max_size=30))
    def test_any_text_is_compiled_or_refused(self, text: str) -> None:
        with suppress(ValueError):
            compile_expression(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", True), ("@", True), ("a.b[0].c", True), ('"a b"[-1] | c', True), ("a | b | c", True),
        ("a[*].b", False), ("a[]", False), ("[a]", False), ("{a: a}", False), ("length(a)", False), ("a[1:]", False),
        ("a || b", False), ("`[1]`", False), ("*", False), ("a[?b]", False), ("a | [@, @]", False),
    ],
)  # fmt: skip
def test_is_path_is_true_for_fields_and_indexes_only(text: str, path: bool) -> None:
    assert is_path(compile_expression(text)) is path


class TestEvaluate:
    @pytest.mark.parametrize(
        ("expression", "found"), [("args", {"a": [1, 2]}), ("args.a[1]", 2), ("args.a | length(@)", 2), ("no", None)]
    )
    def test_finds_what_the_expression_says(self, expression: str, found: Any) -> None:
        assert value(expression, b'\xef\xbb\xbf{"args": {"a": [1, 2]}}') == found

    @pytest.mark.parametrize("expression", ["sum(args)", "abs(args)", "sort_by(args, &x)", "args.x.y", "max_by(@, &a)"])
    def test_finds_nothing_where_the_expression_does_not_fit(self, expression: str) -> None:
        assert value(expression, b'{"args": "text"}') is None

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
    def test_finds_only_what_every_database_can_store(self, expression: str, found: Any) -> None:
        assert value(expression, rb'{"a\u0000": ["\u0000b", 1, true, null, 0.5, "\\u0000"]}') == found

    @pytest.mark.parametrize(
        ("expression", "body", "remark"),
        [
            ("|".join(["[@,@]"] * 26), b"1", f"takes more than {MAX_EXTRACTED} bytes"),
            ("@", b'"' + b"x" * MAX_EXTRACTED + b'"', f"takes more than {MAX_EXTRACTED} bytes"),
            ("@", b'"' + "é".encode() * (MAX_EXTRACTED // 2) + b'"', f"takes more than {MAX_EXTRACTED} bytes"),
            ("sum([a, b])", b'{"a": %s, "b": %s}' % (b"9" * 4300, b"9" * 4300), "a number of more than 4000 digits"),
            ("a", b'{"a": %s}' % (b"9" * 4200), "a number of more than 4000 digits"),
            ("a", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", f"nested more than {MAX_DEPTH} levels deep"),
            ("a", b"[" * 5000 + b"]" * 5000, "the answer is nested too deeply"),
            ("a|" * 499 + "a", b"{}", "nested too deeply for this answer"),
        ],
    )
    def test_says_why_a_value_is_not_extracted(self, expression: str, body: bytes, remark: str) -> None:
        with pytest.raises(NotExtracted, match=remark):
            value(expression, body)

    def test_the_largest_and_the_deepest_value_are_found(self) -> None:
        assert len(value("@", b'"' + b"x" * (MAX_EXTRACTED - 2) + b'"')) == MAX_EXTRACTED - 2
        assert value("@", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (b"[1]", True), (b"null", True), (b' {"a": "\xc3\xa9"} ', True), (b"123456789012345678901", True),
        (b"[1", False), (b"", False), (b"nan", False), (b'"\xff"', False), (b'"\xed\xa0\x80"', False), (b"[01]", False),
        (b'"\\ud800"', False), (b"[" * 100_000, False), (b"[" + b"9" * 5000 + b"]", False), (b"9" * 4000, True),
    ],
)  # fmt: skip
def test_is_json_text(body: bytes, valid: bool) -> None:
    assert is_json_text(body) is valid
