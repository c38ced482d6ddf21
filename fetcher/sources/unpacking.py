"""Bytes out of what they are wrapped in: gzip and UTF-16."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator

PIECE = 64 * 2**10
"""Bytes read, and decompressed, at a time."""

_GZIP = b"\x1f\x8b"
_TRAILING = "passed over the bytes after the end of its gzip data"


class BrokenError(Exception):
    """Reading cannot go on; the text says why and the caller knows how far it came."""


def gunzip(pieces: Iterator[bytes], note: Callable[[int | None, str], None]) -> Iterator[bytes]:
    """Decompress gzip (RFC 1952), its members one after the other.

    Zeros between and after members are padding, as gzip itself takes them. Other bytes after a member are passed over
    with a note: a download or an archive that was cut out of a larger one has them.
    """
    decoder = None
    is_later = False
    left = b""
    for piece in pieces:
        left += piece
        while left:
            if decoder is None:
                left = left.lstrip(b"\0")
                if len(left) < len(_GZIP):  # too short to tell
                    break
                if is_later and not left.startswith(_GZIP):
                    note(None, _TRAILING)
                    return
                decoder = zlib.decompressobj(wbits=31)
            yield from _decompressed(decoder, left)
            left = decoder.unused_data
            if decoder.eof:
                decoder, is_later = None, True
    if decoder is not None or left == _GZIP[:1]:
        raise BrokenError("its gzip data ends in the middle; the file is cut off")
    if left:
        note(None, _TRAILING)


def _decompressed(decoder: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    try:
        while out := decoder.decompress(data, PIECE):
            yield out
            if decoder.eof:
                return
            data = decoder.unconsumed_tail
    except zlib.error:
        raise BrokenError("its gzip data is damaged") from None


def transcoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Turn UTF-16 into UTF-8. What is no character becomes invalid UTF-8, so that it is noticed like there."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text.encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        yield b"\xff"
