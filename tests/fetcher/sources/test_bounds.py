"""Memory stays small whatever a source holds: long lists, long lines, long fields, and bombs."""

# ruff: noqa: A002

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetcher.sources import FORMATS, SourceError, open_source

MIB = 2**20
BOMB = 50 * MIB

BEGINNINGS = {
    "lines": b"http://a/",
    "csv": b"url,body\nhttp://a/,",
    "jsonl": b'{"url":"http://a/","body":"',
    "sitemap": b"<urlset><url><loc>http://a/",
    "opml": b"<opml><outline xmlUrl='http://a/",
}


def peak(path: Path, format: str) -> tuple[int, int]:
    """Return how many targets a source has and the most bytes that reading it took, an error at its end included."""
    count = 0
    tracemalloc.start()
    try:
        for entry in open_source(str(path), format):
            count += entry.target is not None
    except SourceError:
        pass
    finally:
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return count, top


@pytest.fixture(scope="module", params=[pytest.param(False, id="plain"), pytest.param(True, id="gzip")])
def packed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def write(path: Path, pieces: Iterator[bytes], *, packed: bool) -> Path:
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
    return path


@pytest.mark.parametrize("filler", [b"x", b'"', b" ", b"a,", b"[", b"{", b"<!--", b"\0", b"\xff", b"&#65;"])
@pytest.mark.parametrize("format", BEGINNINGS)
def test_a_line_of_ten_megabytes_is_not_kept(tmp_path: Path, format: str, filler: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield BEGINNINGS[format]
        yield from (filler * (MIB // len(filler)) for _ in range(10))

    count, top = peak(write(tmp_path / "list", pieces(), packed=False), format)

    assert count == 0
    assert top < 6 * MIB


@pytest.mark.parametrize("format", BEGINNINGS)
def test_a_bomb_is_not_kept(tmp_path: Path, format: str, packed: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield BEGINNINGS[format]
        yield from (b"x" * MIB for _ in range(BOMB // MIB))

    count, top = peak(write(tmp_path / "list", pieces(), packed=packed), format)

    assert count == 0
    assert top < 6 * MIB


@pytest.mark.parametrize("value", [b'{"url":"', b'{"url":[""'])
@pytest.mark.parametrize("filler", [b"x", b'\\"', b"[{", b'a"a"', b"\n", b"\0"])
def test_a_value_of_ten_megabytes_in_an_array_is_not_kept(tmp_path: Path, value: bytes, filler: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'[\n"http://a/",\n' + value
        yield from (filler * (MIB // len(filler)) for _ in range(10))

    count, top = peak(write(tmp_path / "list", pieces(), packed=False), "jsonl")

    assert count == 1
    assert top < 6 * MIB


@pytest.mark.parametrize("encoding", ["utf-16", "windows-1252", "utf-8"])
def test_a_document_with_bytes_to_replace_is_not_kept(tmp_path: Path, encoding: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield f'\n<?xml version="1.0" encoding="{encoding}"?><urlset><url><loc>http://a/</loc></url>'.encode()
        yield from (b"<a>" + b"\x01\xff\x80" * 1000 + b"</a>" for _ in range(1000))

    count, top = peak(write(tmp_path / "list", pieces(), packed=False), "sitemap")

    assert count == 1
    assert top < 4 * MIB


REPEATED = {
    "lines": (b"", b"http://a/%d\n", b""),
    "csv": (b"url,label\n", b'http://a/%d,"x"\n', b""),
    "jsonl": (b"", b'{"url":"http://a/%d","label":"x"}\n', b""),
    "array": (b"[", b'{"url":"http://a/%d",\n"label":"x"},\n', b"null]"),
    "objects": (b"", b'{\n"url":"http://a/%d"\n}\n', b""),
    "results": (
        b"",
        b'{"id":1,"run":1,"position":1,"url":"http://a/%d","final_url":"http://a/","method":"GET",'
        b'"label":null,"error_kind":null}\n',
        b"",
    ),
    "sitemap": (b"<urlset>", b"<url><loc>http://a/%d</loc></url>\n", b"</urlset>"),
    "opml": (b"<opml>", b'<outline xmlUrl="http://a/%d" text="x"/>\n', b"</opml>"),
}


@pytest.mark.parametrize("format", REPEATED)
def test_a_long_list_takes_no_more_than_a_short_one(tmp_path: Path, format: str, packed: bool) -> None:
    begin, middle, end = REPEATED[format]

    def pieces() -> Iterator[bytes]:
        yield begin
        yield from (middle % number for number in range(30_000))
        yield end

    known = format if format in FORMATS else "jsonl"
    count, top = peak(write(tmp_path / "list", pieces(), packed=packed), known)

    assert count == 30_000
    assert top < 4 * MIB
