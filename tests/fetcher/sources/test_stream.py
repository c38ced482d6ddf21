"""Bytes come through as UTF-8 whatever they were wrapped in; what cannot be read says how far it came."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.sources.entry import SourceError
from fetcher.sources.stream import PIECE, Stream, open_stream
from tests.support.packing import gzipped

LIST = b"http://a/\nhttp://b/\n"


def stream_of(data: bytes) -> Stream:
    return Stream("list", io.BytesIO(data))


def everything(data: bytes) -> bytes:
    return b"".join(stream_of(data).pieces())


class Slow(io.BytesIO):
    """A pipe whose writer sends a byte at a time."""

    def read1(self, _: int | None = -1, /) -> bytes:
        return super().read1(1)


class TestWrappings:
    @pytest.mark.parametrize(
        "wrapped",
        [
            LIST,
            b"\xef\xbb\xbf" + LIST,
            LIST.decode().encode("utf-16"),
            b"\xff\xfe" + LIST.decode().encode("utf-16-le"),
            b"\xfe\xff" + LIST.decode().encode("utf-16-be"),
            gzipped(LIST),
            gzipped(b"\xef\xbb\xbf" + LIST),
            gzipped(LIST.decode().encode("utf-16")),
            gzipped(LIST[:13]) + gzipped(LIST[13:]),
            gzipped(LIST[:13]) + b"\0" * 512 + gzipped(LIST[13:]) + b"\0" * 512,
            gzipped(b"") + gzipped(LIST),
        ],
    )
    @pytest.mark.parametrize("opened", [io.BytesIO, Slow])
    def test_all_give_the_same_bytes(self, wrapped: bytes, opened: Callable[[bytes], io.BytesIO]) -> None:
        assert b"".join(Stream("list", opened(wrapped)).pieces()) == LIST

    @given(st.text(max_size=50), st.sampled_from(["utf-8-sig", "utf-16-le", "utf-16-be"]), st.booleans())
    def test_every_text_comes_through(self, text: str, encoding: str, squeezed: bool) -> None:
        mark = "" if encoding == "utf-8-sig" else "\ufeff"
        data = ("http:" + text).encode(encoding) if not mark else (mark + "http:" + text).encode(encoding)

        assert everything(gzipped(data) if squeezed else data).decode() == "http:" + text

    @given(st.binary(max_size=200), st.integers(1, 200))
    def test_looking_takes_nothing(self, data: bytes, times: int) -> None:
        stream = stream_of(b"x" + data)
        for _ in range(times % 3):
            stream.head()

        assert b"".join(stream.pieces()) == b"x" + data

    @pytest.mark.parametrize("broken", [b"\xff\xfeh\0t\0t", b"\xff\xfeh\0\x00\xd8\n\0", b"\xfe\xff\xdc\x00\0h"])
    def test_broken_utf_16_becomes_invalid_utf_8_and_never_other_text(self, broken: bytes) -> None:
        with pytest.raises(UnicodeDecodeError):
            everything(broken).decode()

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (gzipped(gzipped(LIST)), "is gzip inside gzip"),
            (b"PK\x03\x04\x14\0\x06\0", "is a ZIP archive or a spreadsheet"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a spreadsheet or another office document"),
            (bz2.compress(LIST), "is compressed with bzip2"),
            (lzma.compress(LIST), "is compressed with xz"),
            (b"\x28\xb5\x2f\xfd\x04", "is compressed with Zstandard"),
            (b"%PDF-1.7\n", "is a PDF document"),
            (b"SQLite format 3\0", "is a database"),
            (LIST.decode().encode("utf-32"), "is UTF-32"),
            (LIST.decode().encode("utf-16-le"), "looks like UTF-16 without a byte order mark"),
            (LIST.decode().encode("utf-16-be"), "looks like UTF-16 without a byte order mark"),
        ],
    )
    def test_what_is_something_else_is_named(self, data: bytes, what: str) -> None:
        with pytest.raises(SourceError, match=f"list: {what}"):
            stream_of(data).head()


class TestBrokenGzip:
    @pytest.mark.parametrize("missing", [1, 4, 8])
    def test_without_its_end_every_line_comes_before_the_error(self, missing: int) -> None:
        stream = stream_of(gzipped(LIST)[:-missing])
        lines = stream.lines(100)

        assert [next(lines), next(lines)] == [(b"http://a/\n", True), (b"http://b/\n", True)]
        with pytest.raises(SourceError, match="list: reading stopped after line 2: its gzip data ends in the middle"):
            next(lines)

    def test_a_line_that_was_cut_off_is_not_taken_for_a_whole_one(self) -> None:
        lines = stream_of(gzipped(LIST + b"http://example.com/pa")[:-8]).lines(100)

        assert [raw for raw, _ in (next(lines), next(lines))] == [b"http://a/\n", b"http://b/\n"]
        with pytest.raises(SourceError, match="after line 2"):
            next(lines)

    def test_a_damaged_place_in_the_middle_ends_reading_there(self) -> None:
        noise = random.Random(1)
        plain = b"".join(b"http://a/%d\n" % noise.getrandbits(64) for _ in range(20_000))
        packed = bytearray(gzipped(plain))
        packed[len(packed) // 2 :] = b"\xff" * (len(packed) // 2)
        read = []
        with pytest.raises(SourceError, match=r"reading stopped after line \d+: its gzip data"):
            read.extend(raw for raw, _ in stream_of(bytes(packed)).lines(100))

    @pytest.mark.parametrize("data", [b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0", gzipped(LIST) + b"\x1f"])
    def test_what_is_no_gzip_after_its_first_bytes_is_an_error(self, data: bytes) -> None:
        with pytest.raises(SourceError, match=r"list: reading stopped after line [02]: its gzip data"):
            list(stream_of(data).lines(100))

    @pytest.mark.parametrize("trailing", [b"x", b"junk", b"\0\0junk", b"\0" * 600 + b"\xff" * 600])
    @pytest.mark.parametrize("opened", [io.BytesIO, Slow])
    def test_bytes_after_the_end_are_passed_over_with_one_note(
        self, trailing: bytes, opened: Callable[[bytes], io.BytesIO]
    ) -> None:
        notes: list[str] = []
        stream = Stream("list", opened(gzipped(LIST) + trailing), tell=notes.append)

        assert b"".join(stream.pieces()) == LIST
        assert notes == ["list: passed over the bytes after the end of its gzip data (reported once for each file)"]

    @given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 255))
    def test_any_damage_ends_in_lines_or_that_error(self, data: bytes, place: int, value: int) -> None:
        packed = bytearray(gzipped(data))
        packed[2 + place % (len(packed) - 2)] = value
        with contextlib.suppress(SourceError):
            list(stream_of(bytes(packed)).lines(100))


class TestLines:
    @pytest.mark.parametrize("length", [10, 11, 12, 10 + PIECE, 10 + 3 * PIECE])
    def test_of_a_long_one_only_the_beginning_is_kept(self, length: int) -> None:
        stream = stream_of(b'"' * length + b"\nnext")

        assert list(stream.lines(10)) == [(b'"' * min(length, 10) + b"\n"[: length == 10], True)] * (length == 10) + [
            (b'"' * 11, False)
        ] * (length > 10) + [(b"next", True)]

    def test_quotation_marks_in_the_rest_are_counted(self) -> None:
        stream = stream_of(b"x" * 11 + b'"' * 7 + b"\n")
        next(stream.lines(10))

        assert stream.quotes_passed == 7

    def test_they_are_counted_from_one_as_they_are_read(self) -> None:
        stream = stream_of(LIST)

        assert [stream.line for _ in stream.lines(10)] == [1, 2]

    def test_one_that_never_ends_ends_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fetcher.sources.stream.LONGEST_LINE", 2**20)
        with pytest.raises(SourceError, match="line 1 goes on for more than 1048576 bytes; this is no list of URLs"):
            list(stream_of(b"x" * 2**21).lines(10))


class TestFiles:
    def test_a_path_with_a_nul_is_no_path(self) -> None:
        with pytest.raises(SourceError, match="cannot be read"):
            open_stream("a\0b")

    def test_the_file_is_closed_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "list"
        path.write_bytes(LIST)
        with open_stream(str(path)) as stream:
            assert stream.head() == LIST
        with pytest.raises(ValueError, match="closed"):
            list(stream._file)
