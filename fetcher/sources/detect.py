"""Which format a source has: as told, by its name, then by what it begins with."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import cast

from fetcher.sources import opml, sitemap
from fetcher.sources.csv_rows import find_columns, read_csv
from fetcher.sources.entry import Entry
from fetcher.sources.jsonl import read_jsonl
from fetcher.sources.lines import read_lines
from fetcher.sources.stream import Stream, open_stream
from fetcher.sources.xml_reader import read_xml

FORMATS = ("auto", "lines", "csv", "jsonl", "sitemap", "opml")

_READERS: dict[str, Callable[[Stream], Iterator[Entry]]] = {
    "lines": read_lines,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "sitemap": lambda stream: read_xml(stream, sitemap.ROOTS),
    "opml": lambda stream: read_xml(stream, opml.ROOTS),
    "xml": lambda stream: read_xml(stream, sitemap.ROOTS | opml.ROOTS),
}
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".xml": "xml", ".opml": "xml", ".txt": "lines",
}  # fmt: skip


def open_source(path: str, format: str = "auto", *, name: str | None = None) -> Iterator[Entry]:  # noqa: A002
    """Open a file, or standard input for ``-``, and return its entries; ``format`` is one of FORMATS.

    ``name`` is what messages and entries call it, instead of the path.

    Raises SourceError at once for what a file's beginning shows to be no such list (it does not exist, has no ``url``
    column, …), otherwise while reading. Standard input is not touched before the first entry is asked for: it may be
    a person who has not typed yet. The iterator has ``close()``.
    """
    entries = _entries(open_stream(path, name), format, wait=path == "-")
    next(entries)
    return cast("Iterator[Entry]", entries)


def open_lines(path: str) -> Iterator[Entry]:
    """Return the entries of plain lines, as ``open_source`` does."""
    return open_source(path, "lines")


def _entries(stream: Stream, format: str, *, wait: bool) -> Generator[Entry | None, None, None]:  # noqa: A002
    """Yield None when the source is open and was looked at, then the entries.

    A generator that has begun closes its file however it is left.
    """
    with stream:
        if wait:
            yield None
        entries = _READERS[format if format != "auto" else _found(stream)](stream)
        first = next(entries, None)
        if not wait:
            yield None
        if first is not None:
            yield first
        yield from entries


def _found(stream: Stream) -> str:
    name = stream.name.lower().removesuffix(".gz")
    for suffix, format in _SUFFIXES.items():  # noqa: A001
        if name.endswith(suffix):
            return format
    return guess(stream.head())


def guess(head: bytes) -> str:
    """Return the format of what begins so: ``xml`` where the root element has to decide."""
    text = head.strip(b" \t\r\n")
    if text.startswith((b"<", b"<\0")):
        return "xml"
    if text.startswith((b"{", b'"http', b"[{", b'["')) and not _is_header(text):
        return "jsonl"
    return "csv" if _is_header(text) else "lines"


def _is_header(text: bytes) -> bool:
    first, _, rest = text.partition(b"\n")
    if first.lower().startswith(b"sep=") and len(first.strip()) <= len("sep=;"):
        first = rest.partition(b"\n")[0] or first
    line = first.decode(errors="replace").strip()
    return "://" not in line and "url" in find_columns(line)[1]
