"""A body is decoded step by step, within bounds, or refused with a reason."""

import contextlib
import gzip
import itertools
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.codings import STEP
from fetcher.engine.decoding import ACCEPT_ENCODING, decode, read_codings, refuse_declared_length
from fetcher.engine.errors import DecodingFailed, FetchError, TooLarge
from tests.support.hostile_bodies import SKIPPABLE_FRAME, hostile_body
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


def decoded(encoding: str | list[str], raw: bytes, limit: int = MIB, chunk: int = 0) -> bytes:
    codings, _ = read_codings([encoding] if isinstance(encoding, str) else encoding)
    chunk = chunk or len(raw) or 1
    return b"".join(decode((raw[start : start + chunk] for start in range(0, len(raw), chunk)), codings, limit))


@st.composite
def packed(draw: st.DrawFn) -> tuple[list[str], bytes, bytes]:
    """Draw codings, a body under them and what it decodes to; gzip and zstd of several members or frames each."""
    body = raw = draw(st.binary(max_size=5000))
    codings = draw(st.lists(st.sampled_from(sorted(ENCODERS)), max_size=3))
    for coding in codings:
        cuts = [0, len(raw)]
        if coding in ("gzip", "x-gzip", "zstd"):
            cuts = sorted({0, len(raw), *draw(st.lists(st.integers(0, len(raw)), max_size=3))})
        parts = [raw[start:end] for start, end in itertools.pairwise(cuts)] or [raw]
        raw = b"".join(map(ENCODERS[coding], parts))
    return codings, raw, body


@given(packed(), st.integers(1, 6000))
def test_decode_restores_any_nesting_however_it_is_split(made: tuple[list[str], bytes, bytes], chunk: int) -> None:
    codings, raw, body = made

    assert decoded(", ".join(codings), raw, chunk=chunk) == body
    assert decoded(codings, raw, chunk=chunk) == body


@given(st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, zstd", "br, gzip"]), st.binary(max_size=300), st.data())
def test_decode_raises_only_fetch_errors_for_any_bytes(encoding: str, junk: bytes, data: st.DataObject) -> None:
    raw = junk
    for coding in encoding.split(", ") if data.draw(st.booleans()) else ():
        valid = ENCODERS[coding](raw)
        raw = valid[: data.draw(st.integers(0, len(valid)))] + junk

    with contextlib.suppress(FetchError):
        assert len(decoded(encoding, raw, limit=1000)) <= 1000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 5 * STEP])
def test_bodies_around_the_step_come_out_whole(coding: str, size: int) -> None:
    assert decoded(coding, ENCODERS[coding](b"x" * size)) == b"x" * size


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
    assert decoded(encoding, raw, chunk=chunk) == body


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "br", "zstd", "gzip, br, zstd"])
def test_no_body_at_all_is_fine_under_any_coding(encoding: str) -> None:
    assert decoded(encoding, b"") == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("kept", [1, 5, 0.5, -1])
def test_a_body_that_was_cut_off_is_refused(coding: str, kept: float) -> None:
    raw = ENCODERS[coding](bytes(range(256)) * 4)
    with pytest.raises(DecodingFailed, match=r"ends too early|not valid"):
        decoded(coding, raw[: int(len(raw) * kept) if isinstance(kept, float) else kept])


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_body_that_is_something_else_is_refused(coding: str) -> None:
    with pytest.raises(DecodingFailed, match=f"the body is not valid {coding}: "):
        decoded(coding, b"<html>this was never compressed</html>" * 100)


@pytest.mark.parametrize(
    ("values", "known", "named"),
    [
        (["UTF-8"], [], "'utf-8'"),
        (["none"], [], "'none'"),
        (["aws-chunked"], [], "'aws-chunked'"),
        (["gzip, compress"], ["gzip"], "'compress'"),
        (["8bit", "gzip"], ["gzip"], "'8bit'"),
        (["identity,, GZIP"], ["gzip"], None),
        (["x" * 1000], [], "'" + "x" * 50 + "'"),
        ([], [], None),
    ],
)
def test_read_codings_takes_unknown_ones_for_identity_with_a_remark(
    values: list[str], known: list[str], named: str | None
) -> None:
    remark = f"the content coding {named} is unknown: the body is kept as it came" if named else ""

    assert read_codings(values) == (known, remark)


def test_decode_refuses_a_fourth_coding() -> None:
    with pytest.raises(DecodingFailed, match="4 content codings; at most 3"):
        decoded("gzip, gzip, gzip, gzip", b"x")


def test_every_accepted_coding_is_known() -> None:
    known = ACCEPT_ENCODING.split(", ")

    assert read_codings([ACCEPT_ENCODING]) == (known, "")


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "br", "zstd"])
def test_the_limit_is_the_last_size_that_fits(coding: str) -> None:
    assert decoded(coding, ENCODERS[coding](b"x" * 1000), limit=1000) == b"x" * 1000
    with pytest.raises(TooLarge, match=r"larger than 999 bytes.*--max-body"):
        decoded(coding, ENCODERS[coding](b"x" * 1000), limit=999)


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
    steps: list[int] = []
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            steps.extend(len(piece) for piece in decode([raw], codings, MIB))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(steps) <= MIB
    assert max(steps) <= 2 * STEP
    assert peak < MIB


@pytest.mark.parametrize(
    ("coding", "member", "refusal"),
    [
        ("gzip", gzipped(b""), "gzip members"),
        ("gzip", gzipped(b"x"), "gzip members"),
        ("zstd", zstd.compress(b""), "zstd frames"),
        ("zstd", SKIPPABLE_FRAME, "zstd frames"),
    ],
)
def test_decode_accepts_so_many_members_and_no_more(coding: str, member: bytes, refusal: str) -> None:
    most = 10_000 + MIB // 1024

    assert len(decoded(coding, member * most)) <= most
    with pytest.raises(DecodingFailed, match=f"more than {most} {refusal}"):
        decoded(coding, member * (most + 1))


@pytest.mark.parametrize("size", [1024, 64 * 1024])
def test_decode_accepts_the_members_of_archives_and_logs(size: int) -> None:
    """BGZF has members of 64 KiB; where each record is a member of its own, they are some KiB."""
    assert decoded("gzip", gzipped(b"r" * size) * (10 * MIB // size), limit=10 * MIB) == b"r" * (10 * MIB)


@pytest.mark.parametrize("name", ["empty zstd frames", "empty gzip members", "deflate tables", "brotli maps"])
def test_decode_gives_control_back_although_nothing_comes_out(name: str) -> None:
    """So that the caller can look at the clock: each step is measured by what it may read, 8 KiB or 64 frames."""
    encoding, raw = hostile_body(name)
    steps = decode([raw], read_codings([encoding])[0], 10 * MIB)

    size = sum(len(next(steps)) for _ in range(100))

    assert size < 100 * STEP // 50


def test_a_zstd_window_over_eight_mebibytes_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 25, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    raw = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(DecodingFailed):
        decoded("zstd", raw)


@pytest.mark.parametrize("length", ["1001", " 1001 ", "9" * 5000])
def test_a_declared_length_over_the_limit_is_refused_before_reading(length: str) -> None:
    with pytest.raises(TooLarge, match="1000 bytes"):
        refuse_declared_length(length, 1000)


@pytest.mark.parametrize("length", ["", "0", "1000", "nonsense", "-5", "١٢٣٤٥"])
def test_other_declared_lengths_are_left_to_the_reading(length: str) -> None:
    refuse_declared_length(length, 1000)
