"""Content decoding with bounds: a body is expanded step by step and never past the limit.

RFC 9110, section 8.4. At no moment does a decoder hold more than one step of output (64 KiB, brotli up to 96) for each
coding, whatever is nested in what. The window that a format itself needs (32 KiB for gzip, at most 16 MiB for brotli
and 8 MiB for zstd) comes on top.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import brotli

from fetcher.engine.errors import DecodingFailed, TooLarge

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
"""What to send as Accept-Encoding: every coding that BodyDecoder knows, but identity."""

MAX_CODINGS = 3
STEP = 64 * 1024
# Small pieces of input: what a decoder did not use of a piece is copied at every step.
_PIECE = 8 * 1024
_MAX_ZSTD_WINDOW = 23  # 8 MiB, RFC 9659, section 3
_PREFIX = re.compile(r"^(Error -?\d+ while decompressing data: |brotli: |Unable to decompress Zstandard data: )")


class BodyDecoder:
    """Decodes one body as it arrives.

    ``content_encoding`` is the header's value, or its values in order. ``limit`` is the most bytes that the decoded
    body may have. Raises DecodingFailed for a coding that is not known and for more than three of them.

    Feed the raw chunks to ``feed``, take what it yields, and call ``finish`` at the end.
    """

    def __init__(self, content_encoding: str | Sequence[str], limit: int) -> None:
        self._limit = limit
        codings = _codings(content_encoding)
        stages = [_STAGES[coding]() for coding in reversed(codings)]
        # Even what decodes to nothing (empty gzip members without end) costs time, so each layer is bounded as well.
        # A layer may be a little larger than what it holds, where that could not be compressed.
        slack = limit + limit // 8 + STEP
        self._layers = [_Layer(stage, _Count(slack, limit)) for stage in stages]
        self._decoded = _Count(limit, limit)

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Return what ``data`` decodes to, in pieces of a bounded size. Raises TooLarge and DecodingFailed.

        Without a coding ``data`` is the piece; with one they are decoded as they are taken.
        """
        if not self._layers:
            self._decoded.add(len(data))
            return (data,)
        return self._decode(data)

    def _decode(self, data: bytes) -> Iterator[bytes]:
        pieces: Iterable[bytes] = (data,)
        for layer in self._layers:
            pieces = layer.decode(pieces)
        for piece in pieces:
            self._decoded.add(len(piece))
            yield piece

    def finish(self) -> None:
        """Check that the body is complete. Raises DecodingFailed where it was cut off.

        No bytes at all are fine under any coding: answers to HEAD, 204 and 304 name the coding of a body that they
        do not have, and some servers do the same with an empty one.
        """
        for layer in self._layers:
            layer.finish()


def refuse_declared_length(content_length: str, limit: int) -> None:
    """Raise TooLarge where the Content-Length of a body without coding is over the limit, before it is read."""
    text = content_length.strip()
    if text.isascii() and text.isdigit() and int(text[:20]) > limit:
        raise too_large(limit)


def too_large(limit: int) -> TooLarge:
    """Return the error for a body over ``limit`` bytes."""
    return TooLarge(f"the body is larger than {limit} bytes, decoded (--max-body)", answered=True)


def _failed(text: str) -> DecodingFailed:
    return DecodingFailed(text, answered=True)


def _codings(value: str | Sequence[str]) -> list[str]:
    values = [value] if isinstance(value, str) else value
    names = [name.strip(" \t").lower() for line in values for name in line.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        raise _failed(f"the body has {len(codings)} content codings; at most {MAX_CODINGS} are decoded")
    for coding in codings:
        if coding not in _STAGES:
            raise _failed(f"the content coding {coding[:50]!r} is not known (known are {ACCEPT_ENCODING})")
    return codings


class _Count:
    """Bytes seen, up to a bound."""

    __slots__ = ("_limit", "_named", "seen")

    def __init__(self, limit: int, named: int) -> None:
        self._limit = limit
        self._named = named
        self.seen = 0

    def add(self, size: int) -> None:
        self.seen += size
        if self.seen > self._limit:
            raise too_large(self._named)


class _Stage(Protocol):
    """One coding. ``decode`` takes a small piece of input and yields steps of output, ``complete`` says if it ended."""

    name: str

    def decode(self, data: bytes) -> Iterator[bytes]: ...

    def complete(self) -> bool: ...


class _Layer:
    """A stage with the bound on its input, its errors made ours."""

    def __init__(self, stage: _Stage, count: _Count) -> None:
        self._stage = stage
        self._count = count

    def decode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._count.add(len(chunk))
            for start in range(0, len(chunk), _PIECE):
                try:
                    yield from self._stage.decode(chunk[start : start + _PIECE])
                except (zlib.error, brotli.error, zstd.ZstdError, EOFError) as exc:
                    raise _failed(f"the body is not valid {self._stage.name}: {_reason(exc)}") from exc

    def finish(self) -> None:
        if self._count.seen and not self._stage.complete():
            raise _failed(f"the {self._stage.name} body ends too early")


def _reason(exc: Exception) -> str:
    return _PREFIX.sub("", str(exc))


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

    Zero padding after a member is skipped. What follows and is no further member is ignored, as browsers do: servers
    append debris to complete bodies, and the member's checksum says that it is complete.
    """

    name = "gzip"
    _MAGIC = b"\x1f\x8b"

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = zlib.decompressobj(wbits=31)
        self._between = b""
        self._debris = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._debris:
            if self._member is None:
                data = self._next_member(data)
            if self._member is not None:
                yield from _inflate(self._member, data)
                if not self._member.eof:
                    return
                data = self._member.unused_data
                self._member = None

    def _next_member(self, data: bytes) -> bytes:
        rest = (self._between + data).lstrip(b"\0")
        if rest.startswith(self._MAGIC):
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

    name = "deflate"

    def __init__(self) -> None:
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
    """RFC 7932."""

    name = "br"

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    def decode(self, data: bytes) -> Iterator[bytes]:
        output = self._decoder.process(data, output_buffer_limit=STEP)
        while output:
            yield output
            output = b"" if self._decoder.is_finished() else self._decoder.process(b"", output_buffer_limit=STEP)

    def complete(self) -> bool:
        return bool(self._decoder.is_finished())


class _Zstd:
    """RFC 8878: one frame or more; windows up to 8 MiB (RFC 9659)."""

    name = "zstd"

    def __init__(self) -> None:
        self._frame = self._new()

    @staticmethod
    def _new() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW})

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = self._new()
            output = self._frame.decompress(data, max_length=STEP)
            while output:
                yield output
                output = b"" if self._frame.eof else self._frame.decompress(b"", max_length=STEP)
            data = self._frame.unused_data if self._frame.eof else b""

    def complete(self) -> bool:
        return bool(self._frame.eof)


_STAGES: dict[str, type[_Gzip] | type[_Deflate] | type[_Brotli] | type[_Zstd]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
