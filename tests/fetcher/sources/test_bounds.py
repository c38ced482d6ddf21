"""Memory stays small whatever a source holds: long lists, long lines, long fields, and bombs."""

# ruff: noqa: A002

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetcher.sources import SourceError, open_source

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


def test_a_document_of_fifty_megabytes_in_one_line_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "list", iter([b"[" + b'{"url":"http://a/"},' * (BOMB // 20) + b"]"]), packed=False)

    with pytest.raises(SourceError, match="is one JSON array"):
        open_source(str(path))
    assert peak(path, "jsonl")[1] < 2 * MIB


REPEATED = {
    "lines": (b"", b"http://a/%d\n", b""),
    "csv": (b"url,label\n", b'http://a/%d,"x"\n', b""),
    "jsonl": (b"", b'{"url":"http://a/%d","label":"x"}\n', b""),
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

    count, top = peak(write(tmp_path / "list", pieces(), packed=packed), format)

    assert count == 30_000
    assert top < 4 * MIB
