"""Results as NDJSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.exports.rows import cell, csv_lines, lines_of, result_pages
from fetcher.payloads import ResultItem
from tests.rows import make_result, make_run


class TestCell:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, ""),
            (True, "true"),
            (False, "false"),
            (-5, -5),
            (1.5, 1.5),
            ("text", "text"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\r=x", "'\r=x"),
            ("\uff1d1+1", "'\uff1d1+1"),
            ("\uff0b1", "'\uff0b1"),
            ("\ufe62SUM(1)", "'\ufe62SUM(1)"),
            (" =1+1", "' =1+1"),
            ("\u3000\xa0=1+1", "'\u3000\xa0=1+1"),
            (" " * 200 + "=1", "'" + " " * 200 + "=1"),
            ("\u200b=1", "'\u200b=1"),
            (" \u202e=1", " \ufffd=1"),
            ("  ", "  "),
            (" a=b", " a=b"),
            ("(a)", "(a)"),
            ("a=b", "a=b"),
            ("a\x00b", "a\ufffdb"),
            ({"a": [1, None]}, '{"a":[1,null]}'),
            ([], "[]"),
            ("\uff0d1", "'\uff0d1"),
            ("\uff20SUM(A1)", "'\uff20SUM(A1)"),
            ("\u22121", "'\u22121"),
            (" =1", "' =1"),
            ("\u3000\xa0=1", "'\u3000\xa0=1"),
            ("\ufeff\u200b=1", "'\ufeff\u200b=1"),
            ("\n=1", "'\n=1"),
            ('"=1', "'\"=1"),
            ("'=1", "''=1"),
            (" text - with = signs", " text - with = signs"),
            ("\x1b[31m\x7f\x9b\u202e", "\ufffd[31m\ufffd\ufffd\ufffd"),
            ("a\tb\r\nc", "a\tb\r\nc"),
            ({"a": "\x9b"}, '{"a":"\\u009b"}'),
        ],
    )
    def test_shows(self, value, shown):
        assert cell(value) == shown

    @given(st.text(st.sampled_from(" \t\r\n'\"=+-@\uff1d\uff20\u3000\ufeffa")) | st.text())
    def test_never_begins_like_a_formula(self, text):
        assert (
            not cell(text).lstrip(' "\n\u3000\ufeff').startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff20"))
        )

    @given(st.text(st.sampled_from(" \t\r\n'\"=+-@\uff1d\u3000\ufeffa")))
    def test_apostrophe_can_be_taken_off_again(self, text):
        shown = cell(text)
        assert text == (shown[1:] if shown[:1] == "'" and cell(shown[1:]) == shown else shown)

    @given(st.text())
    def test_has_nothing_that_a_terminal_obeys(self, text):
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cell(text))

    @given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00")), min_size=1))
    def test_is_read_back_by_a_csv_reader(self, texts):
        [row] = csv.reader(io.StringIO(csv_lines([["", *texts]]).decode(), newline=""))
        assert row == ["", *map(cell, texts)]


class TestLines:
    def test_of_csv_have_the_shapes_fields_as_columns(self):
        head, _ = lines_of(ResultItem, "csv")
        assert head.decode() == ",".join(ResultItem.__struct_fields__) + "\r\n"

    @pytest.mark.django_db
    def test_of_both_formats_say_the_same(self):
        run = make_run()
        for number in range(3):
            make_result(run, f"https://example.com/{number}", label="=x", extracted={"a": 1})
        items = [item for page in result_pages(run.pk) for item in page]
        found = [json.loads(line) for line in lines_of(ResultItem, "ndjson")[1](items).splitlines()]
        head, write = lines_of(ResultItem, "csv")
        rows = list(csv.DictReader(io.StringIO((head + write(items)).decode(), newline="")))
        assert [row["url"] for row in rows] == [item["url"] for item in found]
        assert (rows[0]["label"], found[0]["label"]) == ("'=x", "=x")
        assert json.loads(rows[0]["extracted"]) == found[0]["extracted"] == {"a": 1}


@pytest.mark.django_db
def test_pages_have_every_result_once(monkeypatch):
    run = make_run()
    ids = [make_result(run, f"https://example.com/{number}").pk for number in range(7)]
    monkeypatch.setattr("fetcher.exports.rows.PAGE", 3)
    pages = list(result_pages(run.pk))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [item.id for page in pages for item in page] == ids
