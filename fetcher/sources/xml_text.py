"""A document's bytes as UTF-8 that an XML parser takes: without its declaration, in the encoding that it is really in.

Programs write declarations that are wrong: blank lines stand before them (PHP), they name UTF-16 over UTF-8 (.NET's
StringWriter), or an encoding under a name of their own. The declaration is read here and the parser never sees it.
"""

from __future__ import annotations

import codecs
import encodings.aliases
import re
from collections.abc import Iterator

from fetcher.sources.stream import Stream

_LEADING = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*")
_DECLARATION = re.compile(rb"<\?xml(?=[ \t\r\n?])[^>]{0,1000}?\?>")
_ENCODING = re.compile(rb"""encoding\s*=\s*["']([^"'>]*)["']""")
_WIDE = re.compile(r"utf.?(?:16|32)|ucs.?[24]|unicode", re.IGNORECASE)
_NO_ENCODINGS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape"})
"""Codecs of Python's that make text of bytes and yet are no encodings of text."""
_ASCII = bytes(range(0x20, 0x7F))
_CONTROLS = bytes(char for char in range(0x20) if char not in b"\t\r\n")
_TO_SPACE = bytes(ord(" ") if char in _CONTROLS else char for char in range(256))
_NONCHARACTERS = ("\ufffe".encode(), "\uffff".encode())
# What XML 1.0, section 2.2, allows nowhere.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_REPLACEMENT = REPLACEMENT.encode()


def xml_pieces(stream: Stream) -> Iterator[bytes]:
    """Yield the document. Raises SourceError for an encoding that cannot be read, BrokenError, OSError.

    Control characters become spaces (.NET leaves NUL bytes behind the end), what is no character in its encoding
    U+FFFD, with a note.
    """
    head = stream.head()
    pieces = stream.pieces()
    encoding = "utf-8"
    leading = _LEADING.match(head)
    begin = leading.end() if leading else 0
    if declaration := _DECLARATION.match(head, begin):
        encoding = _encoding(stream, declaration[0])
        if begin:
            stream.note(1, "passed over what stands before <?xml (white space or a byte order mark)")
        pieces = _without(pieces, declaration.end())
    elif head.startswith(b"\xef\xbb\xbf"):
        pieces = _without(pieces, begin)
    return _clean(stream, pieces, encoding)


def _without(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """Leave out the first bytes but for their line breaks: lines keep their numbers."""
    first = next(pieces)
    yield b"\n" * first.count(b"\n", 0, length) + first[length:]
    yield from pieces


def _encoding(stream: Stream, declaration: bytes) -> str:
    """Return the name of the codec to read with."""
    if stream.marked or not (declared := _ENCODING.search(declaration)):
        return "utf-8"
    name = declared[1].decode(errors="replace").strip()
    if codec := _codec(name):
        return codec
    if _WIDE.search(name):  # the declaration itself could be read, so its characters are no two bytes each
        stream.note(1, f"read as UTF-8, although its XML declaration says {name[:40]}")
        return "utf-8"
    guessed = "utf-8" if _bare(name).startswith("utf8") else _codec(_bare(name).replace("win", "windows"))
    if guessed:
        stream.note(1, f"read as {guessed.upper()}, which its XML declaration calls {name[:40]}")
        return guessed
    raise stream.error("its XML declaration names an encoding that cannot be read; save it as UTF-8")


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


_SPELLINGS = {_bare(alias): codec for alias, codec in encodings.aliases.aliases.items()}


def _codec(name: str) -> str | None:
    """Return the codec for an encoding that has ASCII's characters where ASCII has them, None for any other."""
    try:
        found = codecs.lookup(_SPELLINGS.get(_bare(name), name)).name
        if found in _NO_ENCODINGS:
            return None
        return found if _ASCII.decode(found) == _ASCII.decode() else None
    except (LookupError, ValueError):  # unknown, or none that makes text of bytes
        return None


def _clean(stream: Stream, pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    is_utf8 = encoding == "utf-8"
    line = 1
    for piece in pieces:
        if not (is_utf8 and piece.isascii() and not decoder.getstate()[0]):
            text = decoder.decode(piece)
            data = text.encode("utf-8", "replace")
            if text.count(REPLACEMENT) > (piece.count(_REPLACEMENT) if is_utf8 else 0):
                _note_invalid(stream, line, data, encoding)
        else:
            data = piece
        if len(data.translate(None, _CONTROLS)) != len(data) or any(char in data for char in _NONCHARACTERS):
            data = _without_forbidden(stream, line, data)
        yield data
        line += data.count(b"\n")
    if rest := decoder.decode(b"", True):
        _note_invalid(stream, line, rest.encode("utf-8", "replace"), encoding)
        yield rest.encode("utf-8", "replace")


def _note_invalid(stream: Stream, line: int, data: bytes, encoding: str) -> None:
    place = line + data.count(b"\n", 0, data.find(_REPLACEMENT))
    stream.note(place, f"replaced bytes that are not {encoding.upper()} by U+FFFD; URLs with them are rejected")


def _without_forbidden(stream: Stream, line: int, data: bytes) -> bytes:
    if found := _FORBIDDEN.search(data):
        place = line + data.count(b"\n", 0, found.start())
        stream.note(place, "read control characters, which XML forbids, as spaces")
    data = data.translate(_TO_SPACE)
    for char in _NONCHARACTERS:
        data = data.replace(char, _REPLACEMENT)
    return data
