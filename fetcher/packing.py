"""Compression of what is stored: zstd (RFC 8878), which takes a third of zlib's time and less room.

A thread keeps its compressor: making one costs several times what compressing a small body does.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x28\xb5\x2f\xfd"
"""What every packed value begins with."""
Damaged = zstd.ZstdError
"""Raised for what is no packed value, or not all of one."""
_LEVEL = 1
_kept = threading.local()


def pack(data: bytes) -> bytes | None:
    """Return the data compressed, None where that would make it no smaller."""
    try:
        compressor = _kept.compressor
    except AttributeError:
        compressor = _kept.compressor = zstd.ZstdCompressor(level=_LEVEL)
    packed: bytes = compressor.compress(data, compressor.FLUSH_FRAME)
    return packed if len(packed) < len(data) else None


def pack_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Do the same for what is read bit by bit; what comes out may be larger."""
    compressor = zstd.ZstdCompressor(level=_LEVEL)
    for chunk in chunks:
        if found := compressor.compress(chunk):
            yield found
    yield compressor.flush()


def unpack(packed: bytes) -> bytes:
    """Undo ``pack``. Raises Damaged."""
    return zstd.decompress(packed)


def unpack_chunks(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Undo either for what is read bit by bit, in chunks of at most ``size`` bytes. Raises Damaged."""
    frame = zstd.ZstdDecompressor()
    for chunk in chunks:
        found = frame.decompress(chunk, size)
        while found:
            yield found
            found = b"" if frame.eof else frame.decompress(b"", size)
        if frame.eof:
            return
    raise Damaged("it ends too early")
