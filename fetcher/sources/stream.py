"""A source's bytes as UTF-8: decompressed where they are gzip, transcoded where a byte order mark says so, bounded."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fetcher.sources.entry import EDGES, SourceError
from fetcher.sources.unpacking import PIECE, BrokenError, gunzip, transcoded

HEAD = 64 * 2**10
"""Bytes looked at to tell what a source holds."""
LONGEST_LINE = 256 * 2**20
"""Bytes; what goes on for longer is no list, and reading stops rather than pass over it for hours."""

_GZIP = b"\x1f\x8b"
_MARKS = ((codecs.BOM_UTF8, ""), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_FOREIGN = (
    (_GZIP, "gzip inside gzip; decompress it once"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet; unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet or another office document; save it as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; decompress it, or use gzip"),
    (b"BZh", "compressed with bzip2; decompress it, or use gzip"),
    (b"\xfd7zXZ", "compressed with xz; decompress it, or use gzip"),
    (b"%PDF-", "a PDF document; save its URLs as text"),
    (b"SQLite format 3", "a database; export its URLs as CSV"),
    (b"\xff\xfe\0\0", "UTF-32; save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32; save it as UTF-8"),
)
_UNMARKED_XML = ((re.compile(rb"<\0[?!A-Za-z]\0"), "utf-16-le"), (re.compile(rb"\0<\0[?!A-Za-z]"), "utf-16-be"))
_UNMARKED = re.compile(rb"(?:[ -~]\0){4}|(?:\0[ -~]){4}")


class Stream(contextlib.AbstractContextManager["Stream"]):
    """An opened source, read by ``lines`` or by ``pieces``; ``head`` looks at the beginning and takes nothing.

    ``name`` is its path or ``stdin``; ``line`` the number of the last line read, from 1, and ``quotes_passed`` how many
    quotation marks were in the part of it that was not kept. ``tell`` gets what a person should know of the source.
    """

    def __init__(
        self,
        name: str,
        file: BinaryIO,
        *,
        keep_open: bool = False,
        is_regular: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = name
        self.line = 0
        self.quotes_passed = 0
        self._file = file
        self._keep_open = keep_open
        self._is_regular = is_regular
        self._tell = tell
        self._told: set[str] = set()
        self._marked: bool | None = None
        self._pieces: Iterator[bytes] = iter(())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep_open:
            self._file.close()

    @property
    def marked(self) -> bool:
        """Whether a byte order mark named the encoding."""
        self._begin()
        return bool(self._marked)

    def error(self, message: str) -> SourceError:
        """Return the error that names this source."""
        return SourceError(f"{self.name}: {message}")

    def note(self, line: int | None, text: str) -> None:
        """Report what was repaired or passed over, once for each text: ``line`` is where it was first."""
        if text not in self._told:
            self._told.add(text)
            place = self.name if line is None else f"{self.name}:{line}"
            self._tell(f"{place}: {text} (reported once for each file)")

    def trim(self, text: str, line: int) -> str:
        """Return a URL without white space around it; invisible characters are removed with a note."""
        found = text.strip(" \t\r\n")
        if text.isascii() or found == (bare := found.strip(EDGES)):
            return found
        self.note(line, "removed no-break spaces or invisible characters around the URL")
        return bare

    def head(self) -> bytes:
        """Return the first HEAD bytes; of a pipe, which may be slow, up to the first line that is not blank."""
        self._begin()
        head, self._pieces = _looked_at(
            self._pieces,
            lambda head: len(head) >= HEAD or (not self._is_regular and b"\n" in head.lstrip(b" \t\r\n")),
        )
        return head[:HEAD]

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, at most PIECE at a time. Raises BrokenError."""
        self._begin()
        return self._pieces

    def lines(self, limit: int) -> Iterator[tuple[bytes, bool]]:
        """Yield each line with its end, and whether it is whole: of a longer one than ``limit`` only the beginning.

        Raises SourceError, which says how far reading came.
        """
        with self.watched():
            self._begin()
            reader = io.BufferedReader(_Raw(self._pieces), PIECE)
            while raw := reader.readline(limit + 1):
                self.line += 1
                whole = len(raw) <= limit or raw.endswith(b"\n")
                if not whole:
                    self._pass_over(reader)
                yield raw, whole

    def _pass_over(self, reader: io.BufferedReader[_Raw]) -> None:
        """Read the rest of a line without keeping it."""
        passed = self.quotes_passed = 0
        while rest := reader.readline(PIECE):
            self.quotes_passed += rest.count(b'"')
            passed += len(rest)
            if rest.endswith(b"\n"):
                return
            if passed > LONGEST_LINE:
                raise self.error(
                    f"line {self.line} goes on for more than {LONGEST_LINE} bytes; this is no list of URLs"
                )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turn what goes wrong while reading into a SourceError."""
        try:
            yield
        except OSError as exc:
            raise self._stopped(_reason(exc)) from None
        except BrokenError as exc:
            raise self._stopped(str(exc)) from None

    def _stopped(self, reason: str) -> SourceError:
        return self.error(f"reading stopped after line {self.line}: {reason}")

    def _begin(self) -> None:
        if self._marked is not None:
            return
        self._marked = False
        head, pieces = _looked_at(_read(self._file), lambda head: len(head) >= 16)
        if head.startswith(_GZIP):
            head, pieces = _looked_at(gunzip(pieces, self.note), lambda head: len(head) >= 16)
        for magic, what in _FOREIGN:
            if head.startswith(magic):
                raise self.error(f"is {what}")
        for mark, encoding in _MARKS:
            if head.startswith(mark):
                self._marked = True
                pieces = _without(mark, pieces)
                self._pieces = transcoded(pieces, encoding) if encoding else pieces
                return
        for pattern, encoding in _UNMARKED_XML:
            if pattern.match(head):
                self._marked = True
                self._pieces = transcoded(pieces, encoding)
                self.note(1, "read as UTF-16, although it has no byte order mark")
                return
        if _UNMARKED.match(head):
            raise self.error("looks like UTF-16 without a byte order mark; save it as UTF-8")
        self._pieces = pieces


def open_stream(path: str, name: str | None = None, tell: Callable[[str], None] = lambda text: None) -> Stream:
    """Open a file, or standard input for ``-``; messages call it ``name``. Raises SourceError."""
    if path == "-":
        file = standard_input()
        return Stream("stdin", file, keep_open=True, is_regular=_is_regular(file), tell=tell)
    try:
        file = Path(path).open("rb")  # noqa: SIM115  (the stream closes it)
        return Stream(name or path, file, is_regular=_is_regular(file), tell=tell)
    except OSError as exc:
        raise SourceError(f"{name or path}: cannot be read: {_reason(exc)}") from None
    except ValueError:
        raise SourceError(f"{name or path!a}: cannot be read: this is no path") from None


def standard_input() -> BinaryIO:
    """Return standard input as bytes. Raises SourceError where it is closed."""
    if sys.stdin is None:
        raise SourceError("stdin: cannot be read: it is closed")
    try:
        # A reader of its own: at exit the interpreter aborts when a thread still waits in a read of sys.stdin's.
        return os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:  # not a file: a program that calls us has put something else in its place
        return sys.stdin.buffer


def _is_regular(file: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except io.UnsupportedOperation:
        return False


class _Raw(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._left or next(self._pieces, b"")
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        self._left = piece[count:]
        return count


def _read(file: BinaryIO) -> Iterator[bytes]:
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)  # what is there now: a pipe may be slow
    while piece := read(PIECE):
        yield piece


def _looked_at(pieces: Iterator[bytes], enough: Callable[[bytes], bool]) -> tuple[bytes, Iterator[bytes]]:
    """Return the beginning, as soon as there is enough of it, and the pieces with nothing taken.

    What goes wrong meanwhile goes wrong again when the pieces are read that far.
    """
    head = b""
    while not enough(head):
        try:
            piece = next(pieces, b"")
        except (OSError, BrokenError) as exc:
            return head, _joined(head, iter(()), exc)
        if not piece:
            break
        head += piece
    return head, _joined(head, pieces)


def _joined(head: bytes, pieces: Iterator[bytes], error: Exception | None = None) -> Iterator[bytes]:
    if head:
        yield head
    yield from pieces
    if error is not None:
        raise error


def _without(mark: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    return _joined(next(pieces).removeprefix(mark), pieces)


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
