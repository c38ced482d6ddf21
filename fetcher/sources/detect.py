"""Which format a source has: as told, by what it begins with, then by its name.

The content goes first because names mislead: Excel calls a table ``.txt``, and ``.json`` may be lines or an array.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import cast

from fetcher.sources import opml, sitemap
from fetcher.sources.csv_rows import find_columns, is_preface, read_csv
from fetcher.sources.entry import EDGES, Entry
from fetcher.sources.jsonl import read_jsonl
from fetcher.sources.lines import read_guessed_lines, read_lines
from fetcher.sources.stream import HEAD, Stream, open_stream
from fetcher.sources.tables import is_table
from fetcher.sources.xml_reader import read_xml

FORMATS = ("auto", "lines", "csv", "jsonl", "sitemap", "opml")

_READERS: dict[str, Callable[[Stream], Iterator[Entry]]] = {
    "lines": read_lines,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "sitemap": lambda stream: read_xml(stream, sitemap.ROOTS),
    "opml": lambda stream: read_xml(stream, opml.ROOTS),
    "guessed lines": read_guessed_lines,
    "xml": lambda stream: read_xml(stream, sitemap.ROOTS | opml.ROOTS),
}
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".xml": "xml", ".opml": "xml",
}  # fmt: skip
_JSON = re.compile(rb'\{|"https?://[^"\n]*"\s*(?:,?\s*(?:\n|$))|\[\s*(?:[{"\]]|$)')


def open_source(
    path: str,
    format: str = "auto",  # noqa: A002
    *,
    name: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Entry]:
    """Open a file, or standard input for ``-``, and return its entries; ``format`` is one of FORMATS.

    ``name`` is what messages and entries call it, instead of the path. ``tell`` gets a line for each kind of thing
    that was repaired in it.

    Raises SourceError at once for what a file's beginning shows to be no such list (it does not exist, has no ``url``
    column, …), otherwise while reading. Standard input is not touched before the first entry is asked for: it may be
    a person who has not typed yet. The iterator has ``close()``.
    """
    entries = _entries(open_stream(path, name, tell), format, wait=path == "-")
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
    by_name = next((known for suffix, known in _SUFFIXES.items() if name.endswith(suffix)), None)
    head = stream.head()
    if len(head) == HEAD:  # its last line is cut off
        head = head[: head.rfind(b"\n") + 1] or head
    found = guess(head)
    if found == "lines":
        return by_name or "guessed lines"
    # Rows in quotes look like JSON strings, and a table without our columns is for the reader to refuse by name.
    if by_name == "csv" and found == "jsonl" and _bare(head).startswith(b'"'):
        return "csv"
    return found


def guess(head: bytes) -> str:
    """Return the format of what begins so: ``xml`` where the root element has to decide."""
    text = _bare(head)
    if text.startswith(b"<"):
        return "xml"
    if _is_header(text):
        return "csv"
    if _JSON.match(text):
        return "jsonl"
    return "csv" if is_table(text) else "lines"


def _bare(head: bytes) -> bytes:
    return head.decode(errors="surrogateescape").strip(EDGES).encode(errors="surrogateescape")


def _is_header(text: bytes) -> bool:
    lines = text.decode(errors="replace").split("\n", 3)
    line = next((line for line in lines[:3] if not is_preface(line)), "").strip()
    return "://" not in line and "url" in find_columns(line)[1]
