"""JSON values cut out of a document: the elements of an array, or objects one after the other, over any lines.

Only strings and brackets are told apart here; what a value holds is for its reader. At most one value is kept, so a
document may be of any length. Commas between values are not insisted on: what a program left out or appended there
(``[…][…]``, as Scrapy does) changes no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fetcher.sources.fields import MAX_RECORD
from fetcher.sources.stream import LONGEST_LINE, Stream

_GAP = re.compile(rb"(?:[ \t\r\n,]|\xef\xbb\xbf)*")
_STRING = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_IN_STRING = re.compile(_STRING, re.DOTALL)
# Everything up to a bracket, or to a string that does not end in this piece.
_BETWEEN = re.compile(rb'(?:[^"{}\[\]]++|"' + _STRING + rb'")*+', re.DOTALL)
_OPEN = re.compile(rb"[{\[]+")
_SCALAR_END = re.compile(rb'[ \t\r\n,\]}"{\[]')


def json_values(stream: Stream) -> Iterator[tuple[int, bytes, bool]]:
    """Yield each value with the line it begins in, and whether it is whole: of a longer one only its beginning.

    Raises SourceError, also where the document ends inside a value or an array.
    """
    scanner = _Scanner(stream)
    with stream.watched():
        for piece in stream.pieces():
            yield from scanner.feed(piece)
        yield from scanner.finish()


def _end(match: re.Match[bytes] | None, place: int) -> int:
    return match.end() if match else place


class _Scanner:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._line = 1
        self._in_array = False
        self._value = bytearray()
        self._size = 0
        self._begun = 0
        self._depth = 0
        self._in_string = self._is_escaped = self._is_scalar = False

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes, bool]]:
        """Read on."""
        place = 0
        while place < len(piece):
            if not self._size:
                place = self._find_value(piece, place)
            else:
                end = self._find_end(piece, place)
                self._take(piece, place, len(piece) if end is None else end)
                if end is None:
                    return
                place = end
                yield self._finished()

    def finish(self) -> Iterator[tuple[int, bytes, bool]]:
        """Yield what ends with the document. Raises SourceError where something in it has no end."""
        if self._size and not self._is_scalar:
            raise self._stream.error(
                f"reading stopped in the value that begins in line {self._begun}: it has no end; is the file cut off, "
                "or a quotation mark or bracket missing?"
            )
        if self._size:
            yield self._finished()
        if self._in_array:
            raise self._stream.error(f"its JSON array has no end (line {self._line}); the file is cut off")

    def _find_value(self, piece: bytes, place: int) -> int:
        """Pass over what stands between values; where one begins it has its first byte."""
        end = _end(_GAP.match(piece, place), place)
        self._line += piece.count(b"\n", place, end)
        self._stream.line = self._line
        if end == len(piece):
            return end
        first = piece[end : end + 1]
        if first == b"[" and not self._in_array:
            self._in_array = True
        elif first == b"]" and self._in_array:
            self._in_array = False
        else:
            self._begun = self._line
            self._depth = int(first in b"{[")
            self._in_string = first == b'"'
            self._is_scalar = not self._depth and not self._in_string
            self._take(piece, end, end + 1)
        return end + 1

    def _find_end(self, piece: bytes, place: int) -> int | None:
        """Return the place behind the value's last byte, None where it goes on in the next piece."""
        if self._is_scalar:
            found = _SCALAR_END.search(piece, place)
            return found.start() if found else None
        if self._is_escaped:
            self._is_escaped = False
            place += 1
        while place < len(piece):
            pattern = _IN_STRING if self._in_string else _BETWEEN
            place = _end(pattern.match(piece, place), place)
            if place == len(piece):
                return None
            place = self._pass_over(piece, place)
            if not self._depth and not self._in_string and not self._is_escaped:
                return place
        return None

    def _pass_over(self, piece: bytes, place: int) -> int:
        """Pass over a quotation mark, a backslash that ends the piece, a closing bracket, or opening ones."""
        char = piece[place : place + 1]
        if char == b"\\":
            self._is_escaped = True
        elif char == b'"':
            self._in_string = not self._in_string
        elif char in b"{[":
            end = _end(_OPEN.match(piece, place), place)
            self._depth += end - place
            return end
        else:
            self._depth -= 1
        return place + 1

    def _take(self, piece: bytes, begin: int, end: int) -> None:
        self._size += end - begin
        self._line += piece.count(b"\n", begin, end)
        room = MAX_RECORD + 1 - len(self._value)
        self._value += piece[begin : min(end, begin + room)]
        if self._size > LONGEST_LINE:
            raise self._stream.error(
                f"the value that begins in line {self._begun} goes on for more than {LONGEST_LINE} bytes; "
                "this is no list of URLs"
            )

    def _finished(self) -> tuple[int, bytes, bool]:
        found = self._begun, bytes(self._value), self._size <= MAX_RECORD
        self._value.clear()
        self._size = 0
        self._stream.line = self._line
        return found
