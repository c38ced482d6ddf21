"""Plain lines, however they are written, and files that cannot be read."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.sources import Entry, SourceError, open_arguments, open_lines, open_source
from fetcher.sources.entry import trimmed
from fetcher.sources.lines import MAX_LINE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "urls.txt"


def read(path: Path, data: bytes) -> list[Entry]:
    path.write_bytes(data)
    return list(open_lines(str(path)))


def brief(entries: list[Entry]) -> list[tuple[int, str]]:
    """Return line and URL, or line and reason in brackets."""
    return [(entry.line, entry.target.url if entry.target else f"[{entry.reason}]") for entry in entries]


class TestLines:
    @pytest.mark.parametrize(
        "data",
        [
            b"http://a/\nhttp://b/\n",
            b"http://a/\nhttp://b/",
            b"http://a/\r\nhttp://b/\r\n",
            b"\xef\xbb\xbfhttp://a/\nhttp://b/\n",
            b"\xef\xbb\xbf  http://a/\t\n\thttp://b/ \n",
        ],
    )
    def test_a_url_each(self, path: Path, data: bytes) -> None:
        assert brief(read(path, data)) == [(1, "http://a/"), (2, "http://b/")]

    @pytest.mark.parametrize(
        "passed_over",
        [b"", b" \t", b"\r", b"# comment", b"  # comment", b"#", b"# caf\xe9", b"#" + b"x" * 3 * MAX_LINE],
    )
    def test_blank_lines_and_comments_are_passed_over_but_counted(self, path: Path, passed_over: bytes) -> None:
        assert brief(read(path, passed_over + b"\nhttp://a/\n")) == [(2, "http://a/")]

    @pytest.mark.parametrize("data", [b"", b"\n", b"\n\n# x", b"\xef\xbb\xbf", b"\xef\xbb\xbf# x"])
    def test_a_file_may_hold_none(self, path: Path, data: bytes) -> None:
        assert read(path, data) == []

    def test_a_fragment_is_no_comment(self, path: Path) -> None:
        assert brief(read(path, b"http://a/#x")) == [(1, "http://a/")]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"http://a/\x00", "contains the control character '\\x00'"),
            (b"http://a/\xff", "is not valid UTF-8"),
            (b"http://a/ http://b/", "contains white space; write %20 where a space is meant"),
            (b"http://a/\rhttp://b/", "has a carriage return in the middle; lines end with LF or CRLF"),
            (b"example.com", "has no scheme; write https://example.com"),
        ],
    )
    def test_what_is_no_url_is_rejected_and_the_rest_read(self, path: Path, line: bytes, reason: str) -> None:
        assert brief(read(path, b"http://a/\n" + line + b"\nhttp://b/\n")) == [
            (1, "http://a/"),
            (2, f"[{reason}]"),
            (3, "http://b/"),
        ]

    def test_user_names_and_passwords_are_not_kept(self, path: Path) -> None:
        (entry,) = read(path, b"https://joe:s3cret@example.com/\n")

        assert entry.value == "https://***@example.com/"

    @pytest.mark.parametrize("edge", ["\ufeff", "\xa0", "\u200b", "\u200e", "\u2060", "\u3000", " \u202f\t"])
    def test_invisible_characters_around_a_url_are_removed_with_a_note(self, path: Path, edge: str) -> None:
        path.write_bytes(f"http://a/\n{edge}http://b/{edge}\n{edge}\nhttp://c/{edge}".encode())
        notes: list[str] = []
        entries = list(open_source(str(path), name="u.txt", tell=notes.append))

        assert brief(entries) == [(1, "http://a/"), (2, "http://b/"), (4, "http://c/")]
        assert notes == [
            "u.txt:2: removed no-break spaces or invisible characters around the URL (reported once for each file)"
        ]

    def test_invisible_characters_inside_a_url_are_not_removed(self, path: Path) -> None:
        assert brief(read(path, "http://a/\ufeffx".encode())) == [(1, "[contains the control character '\\ufeff']")]


class TestLongLines:
    REASON = f"[longer than {MAX_LINE} bytes]"

    @pytest.mark.parametrize("length", [MAX_LINE + 1, MAX_LINE + 2, 2 * MAX_LINE, 2 * MAX_LINE + 1, 5 * MAX_LINE])
    @pytest.mark.parametrize("filler", [b"x", b" ", b"\xc3\xa9"])
    def test_one_is_rejected_and_the_next_line_is_right(self, path: Path, length: int, filler: bytes) -> None:
        line = (b"http://a/" + filler * length)[:length] + b"y"

        assert brief(read(path, line + b"\nhttp://b/\n")) == [(1, self.REASON), (2, "http://b/")]

    def test_one_that_begins_blank_is_not_passed_over(self, path: Path) -> None:
        assert brief(read(path, b" " * (MAX_LINE + 1) + b"http://a/\n")) == [(1, self.REASON)]

    @pytest.mark.parametrize("end", [b"", b"\n"])
    def test_one_of_just_the_limit_is_whole(self, path: Path, end: bytes) -> None:
        (entry,) = read(path, b"x" * MAX_LINE + end)

        assert entry.reason == "longer than 8000 characters"

    def test_its_rest_is_not_kept(self, path: Path) -> None:
        path.write_bytes(b"x" * 10 * 2**20 + b"\nhttp://b/\n")
        tracemalloc.start()
        try:
            entries = list(open_lines(str(path)))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert len(entries) == 2
        assert peak < 2 * 2**20


class TestFiles:
    def test_a_missing_file_is_named(self, path: Path) -> None:
        with pytest.raises(SourceError, match=r"urls\.txt: cannot be read: no such file or directory"):
            open_lines(str(path))

    def test_so_is_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="cannot be read: is a directory"):
            open_lines(str(tmp_path))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_so_is_a_file_without_permission(self, path: Path) -> None:
        path.touch(mode=0)

        with pytest.raises(SourceError, match="cannot be read: permission denied"):
            open_lines(str(path))

    def test_a_file_is_read_no_further_than_it_is_asked_and_closed_when_left(self, path: Path) -> None:
        path.write_bytes(b"http://a/\n" * 3)
        entries = open_lines(str(path))

        assert next(entries).line == 1
        entries.close()  # type: ignore[attr-defined]  (an unclosed file would be a warning, which is an error)

    def test_a_file_that_is_called_stdin_is_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

        assert brief(read(Path("stdin"), b"http://a/")) == [(1, "http://a/")]

    def test_a_dash_is_standard_input_which_stays_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given_input = io.TextIOWrapper(io.BytesIO(b"http://a/\n\nexample.com"))
        monkeypatch.setattr(sys, "stdin", given_input)
        entries = list(open_lines("-"))

        assert [entry.where for entry in entries] == ["stdin:1", "stdin:3"]
        assert not given_input.buffer.closed

    def test_without_a_standard_input_that_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)

        with pytest.raises(SourceError, match="stdin: cannot be read"):
            open_lines("-")

    def test_an_error_while_reading_says_how_far_it_came(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Failing(io.BytesIO):
            def read1(self, size: int | None = -1, /) -> bytes:
                if piece := super().read1(size):
                    return piece
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Failing(b"http://a/\n")))
        entries = open_lines("-")

        assert next(entries).line == 1
        with pytest.raises(SourceError, match="stdin: reading stopped after line 1: input/output error"):
            next(entries)


@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"http://a/", b"#", b"\n", b"\r\n", b"\xff", b"\x00", b"x"])).map(b"".join)
)
def test_any_bytes_give_entries_numbered_as_in_the_file(data: bytes) -> None:
    data = b"\n" + data  # what a file may begin with otherwise: see test_stream
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        entries = list(open_lines(file.name))

    lines = data.split(b"\n")
    assert [entry.line for entry in entries] == sorted({entry.line for entry in entries})
    for entry in entries:
        assert (entry.target is None) == bool(entry.reason)
        assert trimmed(lines[entry.line - 1].decode(errors="replace"))
    passed_over = set(range(1, len(lines) + 1)) - {entry.line for entry in entries}
    assert all(trimmed(lines[number - 1].decode(errors="replace"))[:1] in ("", "#") for number in passed_over)


def test_arguments_are_numbered_and_stripped() -> None:
    assert brief(list(open_arguments([" http://a/ ", "b", "http://c/"]))) == [
        (1, "http://a/"),
        (2, "[is not a URL]"),
        (3, "http://c/"),
    ]
