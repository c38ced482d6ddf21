"""A body is decoded step by step, within bounds, or refused with a reason."""

import contextlib
import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.decoding import ACCEPT_ENCODING, STEP, BodyDecoder, refuse_declared_length
from fetcher.engine.errors import DecodingFailed, TooLarge
from tests.support.packing import gzipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 2**20


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=4),
    "zstd": zstd.compress,
    "identity": bytes,
}


def decode(encoding: str | list[str], raw: bytes, limit: int = MIB, chunk: int = 0) -> bytes:
    decoder = BodyDecoder(encoding, limit)
    chunk = chunk or len(raw) or 1
    pieces = [piece for start in range(0, len(raw), chunk) for piece in decoder.feed(raw[start : start + chunk])]
    decoder.finish()
    return b"".join(pieces)


@given(st.binary(max_size=5000), st.lists(st.sampled_from(sorted(ENCODERS)), max_size=3), st.integers(1, 6000))
def test_round_trip_through_any_nesting_and_any_chunking(body: bytes, codings: list[str], chunk: int) -> None:
    raw = body
    for coding in codings:
        raw = ENCODERS[coding](raw)
    assert decode(", ".join(codings), raw, chunk=chunk) == body
    assert decode(codings, raw, chunk=chunk) == body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 5 * STEP])
def test_bodies_around_the_step_come_out_whole(coding: str, size: int) -> None:
    assert decode(coding, ENCODERS[coding](b"x" * size)) == b"x" * size


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("encoding", "raw", "body"),
    [
        ("gzip", gzipped(b"one") + gzipped(b"") + gzipped(b"two"), b"onetwo"),
        ("gzip", gzipped(b"one") + b"\0" * 600, b"one"),
        ("gzip", gzipped(b"one") + b"\0\0" + gzipped(b"two"), b"onetwo"),
        ("gzip", gzipped(b"one") + b"<!-- debris -->", b"one"),
        ("gzip", gzipped(b"one") + b"\x1f", b"one"),
        ("deflate", bare_deflate(b"bare"), b"bare"),
        ("deflate", zlib.compress(b"wrapped"), b"wrapped"),
        ("deflate", zlib.compress(b"wrapped") + b"debris", b"wrapped"),
        ("zstd", zstd.compress(b"one") + zstd.compress(b"two"), b"onetwo"),
        ("zstd", b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd.compress(b"after"), b"after"),
        ("GZip", gzipped(b"upper"), b"upper"),
        (" gzip ,\tidentity,", gzipped(b"spaces"), b"spaces"),
        ("", b"plain", b"plain"),
        ("identity", b"plain", b"plain"),
    ],
)
def test_what_servers_really_send(encoding: str, raw: bytes, body: bytes, chunk: int) -> None:
    assert decode(encoding, raw, chunk=chunk) == body


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "br", "zstd", "gzip, br, zstd"])
def test_no_body_at_all_is_fine_under_any_coding(encoding: str) -> None:
    assert decode(encoding, b"") == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("kept", [1, 5, 0.5, -1])
def test_a_body_that_was_cut_off_is_refused(coding: str, kept: float) -> None:
    raw = ENCODERS[coding](bytes(range(256)) * 4)
    with pytest.raises(DecodingFailed, match=r"ends too early|not valid"):
        decode(coding, raw[: int(len(raw) * kept) if isinstance(kept, float) else kept])


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_body_that_is_something_else_is_refused(coding: str) -> None:
    with pytest.raises(DecodingFailed, match=f"the body is not valid {coding}: "):
        decode(coding, b"<html>this was never compressed</html>" * 100)


@given(st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, zstd"]), st.binary(max_size=300))
def test_wild_bytes_decode_or_are_refused(encoding: str, raw: bytes) -> None:
    with contextlib.suppress(DecodingFailed, TooLarge):
        decode(encoding, raw)


def test_an_unknown_coding_is_named() -> None:
    with pytest.raises(DecodingFailed, match="'compress' is not known"):
        BodyDecoder("gzip, compress", 1)


def test_a_fourth_coding_is_refused() -> None:
    with pytest.raises(DecodingFailed, match="4 content codings; at most 3"):
        BodyDecoder("gzip, gzip, gzip, gzip", 1)


def test_every_accepted_coding_is_known() -> None:
    for coding in ACCEPT_ENCODING.split(","):
        BodyDecoder(coding, 1)


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "br", "zstd"])
def test_the_limit_is_the_last_size_that_fits(coding: str) -> None:
    assert decode(coding, ENCODERS[coding](b"x" * 1000), limit=1000) == b"x" * 1000
    with pytest.raises(TooLarge, match=r"larger than 999 bytes.*--max-body"):
        decode(coding, ENCODERS[coding](b"x" * 1000), limit=999)


def nested(*codings: str) -> bytes:
    raw = b"\0" * (64 * MIB)
    for coding in codings:
        raw = ENCODERS[coding](raw)
    return raw


@pytest.mark.parametrize(
    "codings", [("gzip",), ("deflate",), ("br",), ("zstd",), ("gzip", "gzip"), ("zstd", "br"), ("gzip", "br", "gzip")]
)
def test_a_bomb_is_never_expanded_past_the_limit(codings: tuple[str, ...]) -> None:
    raw = nested(*codings)
    decoder = BodyDecoder(codings, MIB)
    steps: list[int] = []
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            steps.extend(len(piece) for piece in decoder.feed(raw))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(steps) <= MIB
    assert max(steps) <= 2 * STEP
    assert peak < MIB


def test_a_flood_of_empty_members_is_bounded_too() -> None:
    empty = gzipped(b"")
    raw = gzipped(empty * (4 * MIB // len(empty)))
    with pytest.raises(TooLarge):
        decode("gzip, gzip", raw, limit=MIB)


def test_a_zstd_window_over_eight_mebibytes_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 25, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    raw = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(DecodingFailed):
        decode("zstd", raw)


@pytest.mark.parametrize("length", ["1001", " 1001 ", "9" * 5000])
def test_a_declared_length_over_the_limit_is_refused_before_reading(length: str) -> None:
    with pytest.raises(TooLarge, match="1000 bytes"):
        refuse_declared_length(length, 1000)


@pytest.mark.parametrize("length", ["", "0", "1000", "nonsense", "-5", "١٢٣٤٥"])
def test_other_declared_lengths_are_left_to_the_reading(length: str) -> None:
    refuse_declared_length(length, 1000)
