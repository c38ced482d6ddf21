"""Small bodies that cost much to decode. All are the same at any time and may be built once."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import cache

import brotli

from tests.support.packing import gzipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 2**20
SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\0\0\0\0"


class _Bits:
    """Writes bits as DEFLATE and brotli order them: the first into the lowest bit of the first byte."""

    def __init__(self) -> None:
        self._value = self._count = 0
        self._bytes = bytearray()

    def put(self, *fields: tuple[int, int]) -> None:
        """Add numbers, each with its width in bits."""
        for value, width in fields:
            self._value |= value << self._count
            self._count += width
        whole = self._count // 8
        self._bytes += (self._value & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
        self._value >>= 8 * whole
        self._count -= 8 * whole

    def bytes(self) -> bytes:
        """Return the whole bytes so far."""
        return bytes(self._bytes)


def deflate_tables(blocks: int) -> bytes:
    """A bare deflate stream of blocks (a multiple of 8) that hold code tables and no data (RFC 1951, section 3.2.7)."""
    lengths = {8: (0b00, 2), 9: (0b10, 2), 16: (0b01, 2), 4: (0b011, 3), 5: (0b111, 3)}  # codes, first bit lowest
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4)
    widths = {8: 2, 9: 2, 16: 2, 4: 3, 5: 3}
    block = [(0, 1), (2, 2), (29, 5), (29, 5), (len(order) - 4, 4)]
    block += [(widths.get(symbol, 0), 3) for symbol in order]
    for length, repeated in ((8, 226), (9, 60), (4, 2), (5, 28)):
        block.append(lengths[length])
        left = repeated - 1
        while left >= 3:  # symbol 16: the length before, 3 to 6 times
            times = min(left, 6)
            block += [lengths[16], (times - 3, 2)]
            left -= times
        block += [lengths[length]] * left
    end_of_block = (226 << 1) + 30
    block.append((int(f"{end_of_block:09b}"[::-1], 2), 9))
    bits = _Bits()
    bits.put(*block * 8)  # which are whole bytes
    return bits.bytes() * (blocks // 8) + b"\x03\0"  # the last block: fixed codes, and its end


def brotli_maps(blocks: int) -> bytes:
    """A brotli stream of meta-blocks (a multiple of 8) of one byte, each with a context map of 16 Ki entries.

    RFC 7932, section 9.2.
    """
    simple = (1, 2), (0, 2)  # a prefix code of a single symbol, which follows
    block = [
        (0, 1), (0, 2), (0, 16), (0, 1),  # not the last; one byte long; compressed
        (1, 1), (7, 3), (127, 7), *simple, (0, 9), *simple, (25, 5), (0, 24),  # 256 types of literal blocks
        (0, 1), (0, 1), (0, 2), (0, 4), (0, 512),  # one type of the others; no postfix; context modes
        (1, 1), (0, 3), (1, 1), (12, 4), *simple, (13, 4), (0, 13), (0, 13), (1, 1),  # the map: two runs of zeros
        (0, 1), *simple, (65, 8), *simple, (65, 8), *simple, (8, 10), *simple, (0, 6),
    ]  # fmt: skip
    bits = _Bits()
    # The window size first, one bit. Each block ends with the same one, so eight of them repeat in whole bytes.
    bits.put((0, 1), *block * 8)
    return bits.bytes() * (blocks // 8) + b"\x06"  # the last bit of the last block, and an empty last one


def _bomb(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(bytes(64 * MIB))


_MADE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty zstd frames": ("zstd, gzip", lambda: gzipped(zstd.compress(b"") * 1_000_000)),
    "skippable zstd frames": ("zstd, gzip", lambda: gzipped(SKIPPABLE_FRAME * 1_000_000)),
    "empty gzip members": ("gzip, gzip", lambda: gzipped(gzipped(b"") * 400_000)),
    "gzip members of one byte": ("gzip, gzip", lambda: gzipped(gzipped(b"x") * 400_000)),
    "gzip members of one byte as they are": ("gzip", lambda: gzipped(b"x") * 400_000),
    "deflate tables": ("deflate, gzip", lambda: gzipped(deflate_tables(250_000))),
    "brotli maps": ("br, gzip", lambda: gzipped(brotli_maps(60_000))),
    "gzip bomb": ("gzip", lambda: _bomb(gzipped)),
    "gzip bomb in gzip": ("gzip, gzip", lambda: gzipped(_bomb(gzipped))),
    "zstd bomb": ("zstd", lambda: _bomb(zstd.compress)),
    "brotli bomb": ("br", lambda: _bomb(lambda data: brotli.compress(data, quality=5, lgwin=24))),
    "brotli bomb in brotli": ("br, br", lambda: brotli.compress(_bomb(lambda data: brotli.compress(data, quality=5)))),
    "deflate bomb": ("deflate", lambda: _bomb(zlib.compress)),
}  # fmt: skip
HOSTILE = tuple(_MADE)
"""Names of bodies; none decodes to a result within 10 MiB."""


@cache
def hostile_body(name: str) -> tuple[str, bytes]:
    """Return the Content-Encoding of one of ``HOSTILE``, and the body."""
    coding, make = _MADE[name]
    return coding, make()
