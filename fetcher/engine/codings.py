"""The content codings (RFC 9110, section 8.4.1), each as a decoder that works in steps of bounded size.

A step reads at most ``_PIECE_BYTES`` and ``_BREATH`` members or frames, and yields at most ``STEP`` bytes (brotli up to
96 KiB). A decoder yields after each step, even if the step gave no bytes, so that its caller can check the time. The
format's own window comes on top: 32 KiB for gzip, at most 16 MiB for brotli and 8 MiB for zstd.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import brotli

from fetcher.engine.errors import DecodingFailed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP = 64 * 1024
"""Bytes of output in one step."""
_PIECE_BYTES = 8 * 1024
"""Bytes of input in one step. Small, because a decoder copies the unused rest of its input at every step."""
_BREATH = 64
"""Members or frames in one step. Creating a decoder for one takes 2 to 15 µs, even if it is empty."""
_MAX_ZSTD_WINDOW_LOG = 23
"""8 MiB, RFC 9659, section 3."""
_PREFIX = re.compile(r"^(Error -?\d+ while decompressing data: |brotli: |Unable to decompress Zstandard data: )")


class _Decoder(Protocol):
    """Decodes one coding. ``most`` is how many members or frames it accepts; one more raises DecodingFailed."""

    def __init__(self, most: int) -> None: ...

    def decode(self, data: bytes) -> Iterator[bytes]: ...

    def complete(self) -> bool: ...


def decode_layer(coding: str, chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Yield what ``chunks`` decode to under one coding of ``DECODERS``; a step without output yields ``b""``.

    ``most`` bounds gzip's members and zstd's frames. An empty body decodes to an empty one. Raises DecodingFailed for
    invalid and for truncated input.
    """
    decoder = DECODERS[coding](most)
    begun = False
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_BYTES):
            begun = True
            try:
                yield from decoder.decode(chunk[start : start + _PIECE_BYTES])
            except (zlib.error, brotli.error, zstd.ZstdError, EOFError) as exc:
                raise decoding_failed(f"the body is not valid {coding}: {_PREFIX.sub('', str(exc))}") from exc
            yield b""
        if not chunk:
            yield b""
    if begun and not decoder.complete():
        raise decoding_failed(f"the {coding} body ends too early")


def decoding_failed(text: str) -> DecodingFailed:
    """Return the error for a body that is not what its coding says."""
    return DecodingFailed(text, answered=True)


class _Count:
    """Counts members or frames up to a bound."""

    __slots__ = ("_left", "_most", "_what")

    def __init__(self, most: int, what: str) -> None:
        self._most = self._left = most
        self._what = what

    def add(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise decoding_failed(f"the body has more than {self._most} {self._what}")

    def ends_step(self) -> bool:
        return self._left % _BREATH == 0


def _inflate(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        output = inflater.decompress(data, STEP)
        if output:
            yield output
        data = inflater.unconsumed_tail
        # A full step may have left more inside, without a tail.
        if inflater.eof or (not data and len(output) < STEP):
            return


class _Gzip:
    """RFC 1952: one member or more.

    Zero padding after a member is skipped. Other data after a member is ignored, as browsers do: servers
    append debris to complete bodies, and the member's checksum says that it is complete.
    """

    _MAGIC = b"\x1f\x8b"

    def __init__(self, most: int) -> None:
        self._members = _Count(most, "gzip members")
        self._members.add()
        self._member: zlib._Decompress | None = zlib.decompressobj(wbits=31)
        self._between = b""
        self._debris = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._debris:
            if self._member is None:
                data = self._next_member(data)
                if self._members.ends_step():
                    yield b""
            if self._member is not None:
                yield from _inflate(self._member, data)
                if not self._member.eof:
                    return
                data = self._member.unused_data
                self._member = None

    def _next_member(self, data: bytes) -> bytes:
        rest = (self._between + data).lstrip(b"\0")
        if rest.startswith(self._MAGIC):
            self._members.add()
            self._member = zlib.decompressobj(wbits=31)
            self._between = b""
            return rest
        self._debris = not self._MAGIC.startswith(rest)
        self._between = rest
        return b""

    def complete(self) -> bool:
        return self._member is None


class _Deflate:
    """The zlib format (RFC 1950), or the bare deflate stream that some servers send instead (RFC 9110, 8.4.1.2)."""

    def __init__(self, most: int) -> None:
        self._head = b""
        self._inflater: zlib._Decompress | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._head = self._head, b""
            # No sane bare stream looks like this: it would start with a stored block that has padding bits set.
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._inflater = zlib.decompressobj(wbits=15 if is_zlib else -15)
        if not self._inflater.eof:
            yield from _inflate(self._inflater, data)

    def complete(self) -> bool:
        return self._inflater is not None and self._inflater.eof


class _Brotli:
    """RFC 7932. The library refuses the windows over 16 MiB of its "large window" extension."""

    def __init__(self, most: int) -> None:
        self._decoder = brotli.Decompressor()

    def decode(self, data: bytes) -> Iterator[bytes]:
        output = self._decoder.process(data, output_buffer_limit=STEP)
        while output:
            yield output
            output = b"" if self._decoder.is_finished() else self._decoder.process(b"", output_buffer_limit=STEP)

    def complete(self) -> bool:
        return bool(self._decoder.is_finished())


class _Zstd:
    """RFC 8878: one or more frames, skippable ones included, with windows up to 8 MiB (RFC 9659)."""

    def __init__(self, most: int) -> None:
        self._frames = _Count(most, "zstd frames")
        self._frames.add()
        self._frame = self._new()

    @staticmethod
    def _new() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW_LOG})

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frames.add()
                self._frame = self._new()
                if self._frames.ends_step():
                    yield b""
            output = self._frame.decompress(data, max_length=STEP)
            while output:
                yield output
                output = b"" if self._frame.eof else self._frame.decompress(b"", max_length=STEP)
            data = self._frame.unused_data if self._frame.eof else b""

    def complete(self) -> bool:
        return bool(self._frame.eof)


DECODERS: dict[str, Callable[[int], _Decoder]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
"""The known codings by their lower-case names in Content-Encoding; ``identity`` needs no decoder."""
