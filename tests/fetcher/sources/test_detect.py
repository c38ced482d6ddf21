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


def test_a_name_goes_before_the_content(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty; its first row must name the columns"):
        read(tmp_path / "u.csv", b"")
    assert [entry.reason for entry in read(tmp_path / "u.txt", b"url\n")] == ["is not a URL"]


def test_the_formats_are_those_of_the_contract() -> None:
    assert FORMATS == ("auto", "lines", "csv", "jsonl", "sitemap", "opml")


@pytest.mark.parametrize("format", FORMATS)
def test_what_cannot_be_opened_is_an_error_at_once(tmp_path: Path, format: str) -> None:
    for path, reason in ((tmp_path / "missing", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(SourceError, match=f"{path}: cannot be read: {reason}"):
            open_source(str(path), format)


def test_so_is_a_beginning_that_is_no_list(tmp_path: Path) -> None:
    for data, format in ((b"a,b\n", "csv"), (b"[1]", "jsonl"), (b"<rss/>", "sitemap"), (b"PK\x03\x04", "lines")):  # noqa: A001
        (tmp_path / "list").write_bytes(data)
        with pytest.raises(SourceError):
            open_source(str(tmp_path / "list"), format)


def test_a_source_that_is_never_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"http://a/\n")

    open_source(str(path))  # an unclosed file would be a warning, which is an error
