"""Plain lines: a URL each; blank lines and lines that begin with # are passed over. And URLs given as arguments."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from fetcher.sources.entry import Entry, SourceError, entry_for_url, redacted

MAX_LINE = 64 * 2**10
"""Bytes; the rest of a longer line is passed over without being kept."""


def open_arguments(urls: Sequence[str]) -> Iterator[Entry]:
    """Yield an entry for each argument; ``line`` is its place among them."""
    for number, text in enumerate(urls, 1):
        yield entry_for_url("arguments", number, text.strip())


def open_lines(path: str) -> Iterator[Entry]:
    """Open a file (``-``: standard input) and return its entries. Raises SourceError, now or while reading."""
    if path == "-":
        return _read(_standard_input(), "stdin", contextlib.nullcontext())
    try:
        stream = Path(path).open("rb")  # noqa: SIM115  (the generator closes it)
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read: {_reason(exc)}") from None
    return _read(stream, path, stream)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise SourceError("stdin: cannot be read: it is closed")
    try:
        # A reader of its own: at exit the interpreter aborts when a thread still waits in a read of sys.stdin's.
        return os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:  # not a file: a program that calls us has put something else in its place
        return sys.stdin.buffer


def _read(stream: BinaryIO, name: str, closing: contextlib.AbstractContextManager[object]) -> Iterator[Entry]:
    with closing:
        number = 0
        try:
            while raw := stream.readline(MAX_LINE + 1):
                number += 1
                whole = raw.endswith(b"\n") or len(raw) <= MAX_LINE
                if not whole:
                    _skip_line(stream)
                entry = _entry(name, number, raw, whole=whole)
                if entry is not None:
                    yield entry
        except OSError as exc:
            raise SourceError(f"{name}: reading stopped after line {number}: {_reason(exc)}") from None


def _skip_line(stream: BinaryIO) -> None:
    while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
        pass


def _entry(name: str, number: int, raw: bytes, *, whole: bool) -> Entry | None:
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    text = raw.decode(errors="replace").strip(" \t\r\n")
    if text.startswith("#") or (whole and not text):
        return None
    if not whole:
        return Entry(name, number, value=redacted(text), reason=f"longer than {MAX_LINE} bytes")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return Entry(name, number, value=redacted(text), reason="is not valid UTF-8")
    return entry_for_url(name, number, text)


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
