"""Which format a source has, and when opening one fails."""

# ruff: noqa: A002

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fetcher.sources import FORMATS, SourceError, open_source
from fetcher.sources.detect import guess
from tests.support.sources import read, targets

SAMPLES = {
    "lines": b"# list\nhttp://a/\n",
    "csv": b"id;url\n1;http://a/\n",
    "jsonl": b'{"url":"http://a/"}\n',
    "sitemap": b"<urlset><url><loc>http://a/</loc></url></urlset>",
    "opml": b'<?xml version="1.0"?><opml><outline xmlUrl="http://a/"/></opml>',
}
NAMES = {"lines": ["u.txt"], "csv": ["u.csv", "U.CSV", "u.tsv"], "jsonl": ["u.jsonl", "u.ndjson"],
         "sitemap": ["u.xml"], "opml": ["u.opml", "u.xml"]}  # fmt: skip


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> io.BytesIO:
    buffer = io.BytesIO(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    return buffer


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("format", SAMPLES)
class TestEveryFormat:
    def read(self, path: Path, data: bytes, format: str) -> list[str]:
        return [target.url for target in targets(read(path, data, format))]

    def test_is_read_when_asked_for(self, tmp_path: Path, format: str, packed: Callable[[bytes], bytes]) -> None:
        assert self.read(tmp_path / "any.bin", packed(SAMPLES[format]), format) == ["http://a/"]

    def test_is_known_by_its_name(self, tmp_path: Path, format: str, packed: Callable[[bytes], bytes]) -> None:
        for name in NAMES[format]:
            for suffix in ("", ".gz"):
                assert self.read(tmp_path / (name + suffix), packed(SAMPLES[format]), "auto") == ["http://a/"]

    def test_is_known_by_its_content(self, tmp_path: Path, format: str, packed: Callable[[bytes], bytes]) -> None:
        assert self.read(tmp_path / "list", packed(SAMPLES[format]), "auto") == ["http://a/"]
        assert self.read(tmp_path / "list.gz", packed(SAMPLES[format]), "auto") == ["http://a/"]

    def test_is_known_on_standard_input(
        self,
        monkeypatch: pytest.MonkeyPatch,
        format: str,
        packed: Callable[[bytes], bytes],
    ) -> None:
        buffer = standard_input(monkeypatch, packed(SAMPLES[format]))
        entries = open_source("-")

        assert buffer.tell() == 0  # nobody has typed yet
        assert [target.url for target in targets(list(entries))] == ["http://a/"]
        assert not buffer.closed


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"", "lines"),
        (b"\n\n", "lines"),
        (b"http://a/", "lines"),
        (b"http://a/,url\n", "lines"),
        (b"# url, label\nhttp://a/", "lines"),
        (b"name,link\n", "lines"),
        (b"url\nhttp://a/", "csv"),
        (b"label,url\n", "csv"),
        (b'"label";"URL"\r\n', "csv"),
        (b"sep=;\nlabel;url\n", "csv"),
        (b"\n \n<urlset>", "xml"),
        (b"  <?xml", "xml"),
        (b"\n{", "jsonl"),
        (b'"http://a/"\n', "jsonl"),
        (b'[{"url"', "jsonl"),
        (b"[::1]", "lines"),
        (b"\xff\x00", "lines"),
    ],
)
def test_what_a_beginning_tells(head: bytes, format: str) -> None:
    assert guess(head) == format


@pytest.mark.parametrize("name", ["u.txt", "u.csv", "u.jsonl", "u.xml", "u", "u.data.gz"])
@pytest.mark.parametrize("format", ["csv", "jsonl", "sitemap", "opml"])
def test_content_that_is_clear_goes_before_the_name(tmp_path: Path, name: str, format: str) -> None:
    assert [target.url for target in targets(read(tmp_path / name, SAMPLES[format]))] == ["http://a/"]


def test_a_name_decides_where_the_content_does_not(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty; its first row must name the columns"):
        read(tmp_path / "u.csv", b"")
    with pytest.raises(SourceError, match="has no header row"):
        read(tmp_path / "u.csv", b'"http://a/"\n')


TABLES = [
    b"http://a/,one\nhttp://b/,two\n",
    b"http://a/,First page\nhttp://b/,x\n",
    b"http://a/,\nhttp://b/,\n",
    b"1;http://a/\n2;http://b/\n",
    b"Address,Title\nhttp://a/,17\n",
    b"http://a/\t17\nhttp://b/\t18\n",
    b'"http://a/","x"\n"http://b/","y"\n',
    b"http://a/?x=1,two words\nhttp://b/,\n",
]
NO_TABLES = [
    b"http://a/7,114884,28,title.html\nhttp://b/7,114884,29,other.html\n",
    b"http://a/@52.5,13.4,15z\nhttp://b/@52.6,13.5,15z\n",
    b"http://a/?ids=x,y\nhttp://b/?ids=x,z\n",
    b"http://a/\nhttp://b/,two\n",
    b"http://a/,1\nhttp://b/,2\n",
    b"http://a/;jsessionid=1\nhttp://b/;jsessionid=2\n",
    b"# one, two\nhttp://a/\n",
    b"http://a/,one\n",
]


@pytest.mark.parametrize("data", TABLES)
@pytest.mark.parametrize("name", ["u.txt", "u"])
def test_rows_of_a_table_are_never_fetched_as_lines(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(SourceError, match=r"has no header row|has no column url"):
        read(tmp_path / name, data)


@pytest.mark.parametrize("data", NO_TABLES)
def test_urls_with_commas_are_lines(tmp_path: Path, data: bytes) -> None:
    found = [target.url for target in targets(read(tmp_path / "u.txt", data))]

    assert found == [line for line in data.decode().split("\n") if line.startswith("http")]


@pytest.mark.parametrize("format", ["auto", "lines"])
def test_a_line_that_could_be_a_row_is_noted_once_where_the_format_was_guessed(tmp_path: Path, format: str) -> None:
    (tmp_path / "u.txt").write_bytes(b"http://a/\nhttp://b/,2\nhttp://c/,3\n")
    notes: list[str] = []
    entries = list(open_source(str(tmp_path / "u.txt"), format, name="u.txt", tell=notes.append))

    assert len(entries) == 3
    assert notes == [
        "u.txt:2: the comma is read as a part of the URL; if a label follows it, add a first line url,label "
        "(reported once for each file)"
    ] * (format == "auto")


def test_the_formats_are_those_of_the_contract() -> None:
    assert FORMATS == ("auto", "lines", "csv", "jsonl", "sitemap", "opml")


@pytest.mark.parametrize("format", FORMATS)
def test_what_cannot_be_opened_is_an_error_at_once(tmp_path: Path, format: str) -> None:
    for path, reason in ((tmp_path / "missing", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(SourceError, match=f"{path}: cannot be read: {reason}"):
            open_source(str(path), format)


def test_so_is_a_beginning_that_is_no_list(tmp_path: Path) -> None:
    for data, format in ((b"a,b\n", "csv"), (b"<rss/>", "sitemap"), (b"PK\x03\x04", "lines")):  # noqa: A001
        (tmp_path / "list").write_bytes(data)
        with pytest.raises(SourceError):
            open_source(str(tmp_path / "list"), format)


def test_a_source_that_is_never_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"http://a/\n")

    open_source(str(path))  # an unclosed file would be a warning, which is an error
