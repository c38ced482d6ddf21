"""Bodies that are framed or coded to cost the reader time or memory (RFC 9112, section 7; RFC 9110, section 8.4)."""

from __future__ import annotations

import gzip
import random
import struct
import zlib

import brotli

from fetcher.engine.codings import zstd
from tests.hostile.reply import (
    DECODING,
    HTTP_STATUS,
    PROTOCOL,
    SUCCEEDED,
    TIMEOUT,
    TOO_LARGE,
    Family,
    answer,
    chunked,
    headed,
)

CHUNKS = Family("chunks")
CODINGS = Family("coding")

_LAST = b"0\r\n\r\n"
_EMPTY_ZSTD_FRAME = zstd.compress(b"")
_SKIPPABLE_FRAME = struct.pack("<II", 0x184D2A50, 0)
_LARGE = 2**25


def _framed() -> None:
    for name, body in {
        "size-words": b"two\r\nok\r\n" + _LAST,
        "size-negative": b"-2\r\nok\r\n" + _LAST,
        "size-empty": b"\r\nok\r\n" + _LAST,
        "size-2-64": b"10000000000000002\r\nok\r\n" + _LAST,
        "size-1000-digits": b"f" * 1000 + b"\r\nok\r\n" + _LAST,
        "shorter-than-chunk": b"5\r\nok\r\n" + _LAST,
        "no-end-of-chunk": b"2\r\nokok\r\n" + _LAST,
        "ends-in-size": b"2",
        "ends-in-chunk": b"2\r\no",
        "ends-before-last": b"2\r\nok\r\n",
    }.items():
        CHUNKS.add(name, chunked(body), PROTOCOL)
    for name, body in {
        "size-prefix": b"0x2\r\nok\r\n" + _LAST,
        "size-zeros": b"0" * 1000 + b"2\r\nok\r\n" + _LAST,
        "size-spaces": b" 2 \r\nok\r\n" + _LAST,
        "line-feeds-only": b"2\nok\n0\n\n",
        "extension-1m": b"2;" + b"x" * 2**20 + b"\r\nok\r\n" + _LAST,
        "extension-each": b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b\r\nx\r\n" * 200_000 + _LAST,
        "trailers-100k": b"2\r\nok\r\n0\r\n" + b"X: 1\r\n" * 100_000 + b"\r\n",
        "trailer-length": b"2\r\nok\r\n0\r\nContent-Length: 99\r\n\r\n",
        "trailer-1m": b"2\r\nok\r\n0\r\nX: " + b"v" * 2**20 + b"\r\n\r\n",
        "no-last-crlf": b"2\r\nok\r\n0\r\n",
    }.items():
        CHUNKS.add(name, chunked(body), SUCCEEDED, PROTOCOL, TIMEOUT)
    CHUNKS.add("one-byte-300k", lambda: chunked(b"1\r\nx\r\n" * 300_000 + _LAST), SUCCEEDED, TIMEOUT)
    CHUNKS.add("in-old-version", chunked(b"2\r\nok\r\n" + _LAST).replace(b"1.1", b"1.0"), SUCCEEDED, PROTOCOL)
    CHUNKS.add("over-max-body", lambda: chunked((b"100000\r\n" + b"x" * 2**20 + b"\r\n") * 12), TOO_LARGE)
    for name, value in {
        "twice": b"chunked, chunked",
        "unknown": b"xchunked",
        "gzip": b"gzip",
        "identity": b"identity",
    }.items():
        head = b"Transfer-Encoding: " + value
        CHUNKS.add(f"transfer-{name}", headed(head, body=b"2\r\nok\r\n" + _LAST), SUCCEEDED, PROTOCOL, DECODING)
        CHUNKS.add(f"transfer-{name}-and-length", answer(head), SUCCEEDED, PROTOCOL, DECODING)


def _coded(coding: bytes, body: bytes, status: bytes = b"200 OK") -> bytes:
    return answer(b"Content-Encoding: " + coding, body=body, status=status)


def _gzip_head(flags: int) -> bytes:
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)


def _codings() -> None:
    plain = b"some text that is packed " * 100
    packed = gzip.compress(plain)
    for name, coding in {
        "unknown": b"UTF-8", "none": b"none", "aws-chunked": b"aws-chunked", "binary": b"binary", "empty": b"",
        "comma": b",", "10k": b"x" * 10_000, "compress": b"compress",
    }.items():  # fmt: skip
        CODINGS.add(f"named-{name}", _coded(coding, b"ok"), SUCCEEDED)
    CODINGS.add("named-four", _coded(b"gzip, gzip, gzip, gzip", b"ok"), DECODING)
    CODINGS.add("named-5000", _coded(b", ".join([b"gzip"] * 5000), b"ok"), DECODING)
    for name, body in {
        "text": b"ok", "one-byte": b"\x1f", "cut": packed[:-20], "checksum": packed[:-8] + bytes(8),
        "reserved-flags": _gzip_head(0xE0) + b"x" * 100, "random": b"\x1f\x8b\x08" + random.Random(1).randbytes(10_000),
    }.items():  # fmt: skip
        CODINGS.add(f"gzip-{name}", _coded(b"gzip", body), DECODING)
    CODINGS.add("gzip-debris", _coded(b"gzip", packed + b"debris" * 1000), SUCCEEDED)
    CODINGS.add("gzip-name-4m", lambda: _coded(b"gzip", _gzip_head(8) + b"n" * 2**22), DECODING, TOO_LARGE, TIMEOUT)
    CODINGS.add("gzip-bomb", lambda: _coded(b"gzip", gzip.compress(bytes(_LARGE))), TOO_LARGE)
    CODINGS.add(
        "gzip-empty-members", lambda: _coded(b"gzip", gzip.compress(b"") * 100_000), DECODING, TOO_LARGE, TIMEOUT
    )
    CODINGS.add(
        "gzip-small-members", lambda: _coded(b"gzip", gzip.compress(b"x") * 100_000), DECODING, TOO_LARGE, TIMEOUT
    )
    CODINGS.add(
        "gzip-empty-blocks",
        lambda: _coded(b"gzip", _gzip_head(0) + b"\x00\x00\x00\xff\xff" * 500_000),
        DECODING,
        TOO_LARGE,
        TIMEOUT,
    )
    CODINGS.add("deflate-bomb", lambda: _coded(b"deflate", zlib.compress(bytes(_LARGE))), TOO_LARGE)
    CODINGS.add("deflate-random", _coded(b"deflate", b"\x78\x9c" + random.Random(2).randbytes(10_000)), DECODING)
    CODINGS.add("brotli-bomb", lambda: _coded(b"br", brotli.compress(bytes(_LARGE), quality=1)), TOO_LARGE)
    CODINGS.add(
        "brotli-window",
        lambda: _coded(b"br", brotli.compress(random.Random(3).randbytes(2**20) * 12, quality=1, lgwin=24)),
        TOO_LARGE,
    )
    CODINGS.add("brotli-random", _coded(b"br", random.Random(4).randbytes(10_000)), DECODING)
    CODINGS.add("brotli-large-window", _coded(b"br", b"\x11\x1e" + bytes(1000)), DECODING)
    CODINGS.add("zstd-bomb", lambda: _coded(b"zstd", zstd.compress(bytes(_LARGE))), TOO_LARGE)
    CODINGS.add("zstd-empty-frames", lambda: _coded(b"zstd", _EMPTY_ZSTD_FRAME * 300_000), DECODING, TOO_LARGE, TIMEOUT)
    CODINGS.add(
        "zstd-skippable-frames", lambda: _coded(b"zstd", _SKIPPABLE_FRAME * 500_000), DECODING, TOO_LARGE, TIMEOUT
    )
    CODINGS.add("zstd-window-2g", _coded(b"zstd", b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(100)), DECODING)
    CODINGS.add("zstd-random", _coded(b"zstd", b"\x28\xb5\x2f\xfd" + random.Random(5).randbytes(10_000)), DECODING)
    CODINGS.add(
        "nested-empty-frames",
        lambda: _coded(b"zstd, gzip", gzip.compress(_EMPTY_ZSTD_FRAME * 1_300_000)), DECODING, TOO_LARGE, TIMEOUT,
    )  # fmt: skip
    CODINGS.add(
        "nested-skippable-frames",
        lambda: _coded(b"zstd, gzip", gzip.compress(_SKIPPABLE_FRAME * 1_300_000)), DECODING, TOO_LARGE, TIMEOUT,
    )  # fmt: skip
    CODINGS.add(
        "nested-members",
        lambda: _coded(b"gzip, gzip", gzip.compress(gzip.compress(b"") * 500_000)), DECODING, TOO_LARGE, TIMEOUT,
    )  # fmt: skip
    CODINGS.add(
        "nested-bombs",
        lambda: _coded(b"gzip, br, zstd", zstd.compress(brotli.compress(gzip.compress(bytes(_LARGE)), quality=1))),
        TOO_LARGE,
    )
    for status in (b"404 X", b"503 X"):
        CODINGS.add(f"broken-{status[:3].decode()}", _coded(b"gzip", b"no", status), HTTP_STATUS)
        CODINGS.add(f"bomb-{status[:3].decode()}", _gzip_bomb_with(status), HTTP_STATUS)
    CODINGS.add("head", headed(b"Content-Encoding: gzip", b"Content-Length: 5"), SUCCEEDED, method="HEAD")
    CODINGS.add("no-content", headed(b"Content-Encoding: gzip", status=b"204 X"), SUCCEEDED)
    CODINGS.add("empty-body", _coded(b"gzip", b""), SUCCEEDED)


def _gzip_bomb_with(status: bytes) -> bytes:
    return _coded(b"gzip", gzip.compress(bytes(2**24)), status)


_framed()
_codings()
