"""Plain lines: a URL each; blank lines and lines that begin with # are passed over. And URLs given as arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fetcher.sources.entry import Entry, entry_for_url, rejection
from fetcher.sources.stream import Stream
from fetcher.sources.tables import could_be_row

MAX_LINE = 64 * 2**10
"""Bytes; the rest of a longer line is passed over without being kept."""


def open_arguments(urls: Sequence[str]) -> Iterator[Entry]:
    """Yield an entry for each argument; ``line`` is its place among them."""
    for number, text in enumerate(urls, 1):
        yield entry_for_url("arguments", number, text)


def read_lines(stream: Stream) -> Iterator[Entry]:
    """Yield the entries of plain lines. Raises SourceError where reading cannot go on."""
    for raw, whole in stream.lines(MAX_LINE):
        entry = _entry(stream, stream.line, raw, whole=whole)
        if entry is not None:
            yield entry


def read_guessed_lines(stream: Stream) -> Iterator[Entry]:
    """Yield the entries of lines that nobody said are lines: one that could be a row of a table leaves a note."""
    is_noted = False
    for entry in read_lines(stream):
        if not is_noted and entry.target is not None and could_be_row(entry.target.url):
            is_noted = True
            stream.note(
                entry.line,
                "the comma is read as a part of the URL; if a label follows it, add a first line url,label",
            )
        yield entry


def _entry(stream: Stream, number: int, raw: bytes, *, whole: bool) -> Entry | None:
    name = stream.name
    valid = True
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        valid = False
    text = stream.trim(text, number)
    if text.startswith("#") or (whole and not text):
        return None
    if not whole:
        return rejection(name, number, text, f"longer than {MAX_LINE} bytes")
    if not valid:
        return rejection(name, number, text, "is not valid UTF-8")
    if "\r" in text:
        return rejection(name, number, text, "has a carriage return in the middle; lines end with LF or CRLF")
    return entry_for_url(name, number, text)
