"""JSON lines: what a line may hold, and what is said of one that holds something else."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.types import Target
from fetcher.sources import Entry, SourceError, open_source
from fetcher.sources.fields import FieldError
from fetcher.sources.json_values import json_values
from fetcher.sources.jsonl import read_entry, read_headers
from fetcher.sources.stream import Stream
from tests.support.sources import brief, read, targets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.jsonl"


def entry(line: str | bytes) -> Entry:
    return read_entry("f", 1, line if isinstance(line, bytes) else line.encode())


class TestLines:
    def test_all_fields(self, path: Path) -> None:
        data = (
            b'{"url": "http://a/", "method": "post", "headers": {"Accept": "text/html"}, "body": "{\\"a\\": 1}",'
            b' "label": "x", "retry": true}\n\n"http://b/"\r\n \n{"headers":[["A","1"],["A","2"]],"url":"http://c/"}'
        )

        assert targets(read(path, data)) == [
            Target("http://a/", "a:80", "POST", (("Accept", "text/html"),), b'{"a": 1}', label="x", retry=True),
            Target("http://b/", "b:80"),
            Target("http://c/", "c:80", headers=(("A", "1"), ("A", "2"))),
        ]

    @pytest.mark.parametrize(
        ("label", "shown"), [("7", "7"), ("-1", "-1"), ("1.5", "1.5"), ('"7"', "7"), ("null", None), ('""', None)]
    )
    def test_a_label_may_be_a_number(self, label: str, shown: str | None) -> None:
        found = entry(f'{{"url":"http://a/","label":{label}}}').target

        assert found is not None
        assert found.label == shown

    def test_null_is_as_if_a_field_were_not_there(self) -> None:
        line = '{"url":"http://a/","method":null,"headers":null,"body":null,"label":null,"retry":null}'

        assert entry(line).target == Target("http://a/", "a:80")

    @pytest.mark.parametrize(
        "line", ['{"url":"http://a/","label":"url"}', '{"url":"http://a/","body":"{\\"url\\":1,\\"url\\":2}"}',
                 '{"url":"http://a/","headers":{"url":"x","body":"y"},"body":"z"}'],
    )  # fmt: skip
    def test_what_only_looks_like_a_repeated_key_is_none(self, line: str) -> None:
        assert entry(line).target is not None

    @given(
        st.fixed_dictionaries(
            {"url": st.sampled_from(["http://a/", "http://b/?\u00e9"])},
            optional={
                "method": st.sampled_from(["GET", "put"]),
                "headers": st.dictionaries(st.sampled_from(["A", "url", "X-B"]), st.text("a:\"\\{} ", max_size=5)),
                "body": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
                "label": st.text("a\"\\{url} ", max_size=10) | st.integers(),
                "retry": st.booleans(),
            },
        ),
        st.booleans(),
    )  # fmt: skip
    def test_whatever_a_writer_of_json_writes_is_read(self, record: dict[str, object], escaped: bool) -> None:
        found = entry(json.dumps(record, ensure_ascii=escaped)).target

        assert found is not None
        assert found.body == (str(record["body"]).encode() if "body" in record else None)
        assert dict(found.headers) == {
            name: value.strip(" \t")
            for name, value in dict(record.get("headers", {})).items()  # type: ignore[call-overload]
        }

    def test_one_bad_line_does_not_touch_the_next(self, path: Path) -> None:
        assert brief(read(path, b'"http://a/"\n{"url":\n"http://b/"\n')) == [
            (1, "http://a/"),
            (2, "[is not JSON: it ends too early]"),
            (3, "http://b/"),
        ]

    @pytest.mark.parametrize(("field", "noted"), [("metod", False), ("URL", False), ("title", True)])
    def test_the_url_alone_is_advised_only_where_a_field_is_no_slip(self, path: Path, field: str, noted: bool) -> None:
        path.write_text(f'{{"url":"http://a/","{field}":"x"}}\n' * 2)
        notes: list[str] = []
        entries = list(open_source(str(path), tell=notes.append))

        assert [entry.target for entry in entries] == [None, None]
        assert len(notes) == noted


class TestDocuments:
    @pytest.mark.parametrize(
        ("data", "lines"),
        [
            (b'[{"url":"http://a/"},{"url":"http://b/"}]', (1, 1)),
            (b'[\n{"url":"http://a/"},\n{"url":"http://b/"}\n]\n', (2, 3)),
            (b'\n[\n  "http://a/",\n\n  "http://b/"\n]', (3, 5)),
            (b'{\n  "url": "http://a/"\n}\n{\n  "url": "http://b/"\n}\n', (1, 4)),
            (b'{"url": "http://a/",\n "label": "x]}"}\n{"url": "http://b/"}', (1, 3)),
            (b'{"url":"http://a/"},\n{"url":"http://b/"},\n', (1, 2)),
            (b'["http://a/"]\n["http://b/"]', (1, 2)),
            (b'[{"url":"http://a/"}][{"url":"http://b/"}]', (1, 1)),
            (b'[{"url":"http://a/","label":"\\"]"},{"url":"http://b/"},]', (1, 1)),
        ],
    )
    def test_values_are_read_over_any_lines(self, path: Path, data: bytes, lines: tuple[int, int]) -> None:
        assert brief(read(path, data)) == [(lines[0], "http://a/"), (lines[1], "http://b/")]

    @pytest.mark.parametrize("data", [b"[]", b"[\n]\n", b"[ ]"])
    def test_an_empty_array_is_an_empty_list(self, path: Path, data: bytes) -> None:
        assert read(path, data) == []

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_values_are_the_same_in_pieces_of_any_size(self, size: int) -> None:
        data = b'[{"url":"http://a/","label":"\\\\\\""},\n"http://b/?\xc3\xa9", 17,\nnull,{"a":[{}]}]'
        pieces = io.BytesIO(data)
        pieces.read1 = lambda _=-1: pieces.read(size)  # type: ignore[method-assign]
        found = list(json_values(Stream("f", pieces)))

        assert [(line, raw) for line, raw, _ in found] == [
            (1, b'{"url":"http://a/","label":"\\\\\\""}'), (2, b'"http://b/?\xc3\xa9"'), (2, b"17"), (3, b"null"),
            (3, b'{"a":[{}]}'),
        ]  # fmt: skip

    def test_a_bad_value_is_rejected_with_its_line_and_the_next_is_read(self, path: Path) -> None:
        data = b'[\n{"url":\n1},\n17,\n{"url":"http://b/", "body": "' + b"x" * 2**20 + b'"},\n"http://a/"]'

        assert brief(read(path, data)) == [
            (2, "[url: must be a string]"),
            (4, "[is neither a JSON object nor a URL in quotes]"),
            (5, "[longer than 1048576 bytes]"),
            (6, "http://a/"),
        ]

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b'[{"url":"http://a/"},\n', r"its JSON array has no end \(line 2\); the file is cut off"),
            (
                b'[{"url":"http://a/"},\n{"url":',
                "in the value that begins in line 2: it has no end; is the file cut off",
            ),
            (b'[{"url":"http://a/"},\n{"url":"http://b/}]', "in the value that begins in line 2: it has no end"),
        ],
    )
    def test_what_stands_before_a_cut_is_read_and_the_cut_is_an_error(
        self, path: Path, data: bytes, error: str
    ) -> None:
        path.write_bytes(data)
        entries = open_source(str(path))

        assert next(entries).line == 1
        with pytest.raises(SourceError, match=error):
            next(entries)

    @pytest.mark.parametrize(
        "data", [b'{"items": [\n {"url":"http://a/"}]}', b'{\n"next":"x","items":["http://a/"]\n}']
    )
    def test_a_list_inside_an_object_is_refused_with_the_way_to_it(self, path: Path, data: bytes) -> None:
        with pytest.raises(SourceError, match=r"under 'items'; pass the list: jq '\.items' does"):
            read(path, data)


class TestSecrets:
    @pytest.mark.parametrize(
        "line",
        [
            '{"url":"http://a/","headers":{"Authorization":"s3cret"',
            '{"headers":{"Authorization":"s3cret"},"url":1}',
            '{"headers":{"Authorization":"s3cret\\n"},"url":"http://a/"}',
            '{"headers":{"Authorization":"s3cret","Authorization":"s3cret"},"url":"http://a/"}',
            '{"headers":[["Authorization","s3cret","x"]],"url":"http://a/"}',
            '{"url":"http://joe:s3cret@a/","method":1}',
            '["http://a/", "s3cret"]',
            '{"body":"s3cret","body":"s3cret","url":"http://a/"}',
        ],
    )
    def test_a_rejection_shows_none(self, line: str) -> None:
        rejected = entry(line)

        assert rejected.target is None
        assert "s3cret" not in rejected.value + rejected.reason

    def test_the_url_is_shown_where_it_comes_first(self) -> None:
        assert entry('{"url": "http://a/", "body": 1}').value == "http://a/"


class TestHeadersAlone:
    def test_are_an_object_or_pairs(self) -> None:
        assert read_headers('{"A":"1"}') == {"A": "1"}
        assert read_headers('[["A","1"]]') == [("A", "1")]

    @pytest.mark.parametrize("text", ["A: 1", "1", '"A"', '{"A":1}', '[["A"]]', "{", "", "[" * 100_000])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(FieldError, match="headers: must be an object of strings"):
            read_headers(text)

    def test_a_repeated_name_is_refused(self) -> None:
        with pytest.raises(FieldError, match="A: is given more than once"):
            read_headers('{"A":"1","A":"2"}')
