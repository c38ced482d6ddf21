"""Guarded streams; tests/fetcher/management/test_streams.py has real processes on full, closed and broken ones."""

from __future__ import annotations

import errno
import io

import pytest
from django.core.management.base import CommandError

from fetcher.cli.streams import Stream, ends_when_lost, guarded, lost_output_is_an_error

FULL = OSError(errno.ENOSPC, "No space left on device")
SENTENCE = "standard output cannot be written: no space left on device. "


class Failing(io.StringIO):
    """Counts its writes, and fails each with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        raise self.error


class TestStream:
    def test_write_that_fails_is_remembered_and_later_text_is_dropped(self) -> None:
        beneath = Failing(FULL)
        stream = Stream(beneath)
        assert [stream.write("lost"), stream.write("dropped")] == [4, 7]
        assert (stream.failure, beneath.writes) == (FULL, 1)

    def test_closed_stream_fails_at_the_first_text_only(self) -> None:
        stream = Stream(None)
        stream.write("")
        stream.flush()
        assert stream.problem() == ""
        stream.write("text")
        assert stream.problem().startswith("standard output cannot be written: it is closed. ")

    def test_problem_is_empty_when_the_reader_has_left(self) -> None:
        stream = Stream(Failing(BrokenPipeError()))
        stream.write("lost")
        assert stream.problem() == ""

    def test_error_that_is_no_stream_failure_is_raised(self) -> None:
        with pytest.raises(ValueError, match="a defect"):
            Stream(Failing(ValueError("a defect"))).write("text")

    def test_bytes_are_written_as_text_where_the_stream_takes_only_text(self) -> None:
        beneath = io.StringIO()
        Stream(beneath).write_bytes("é\n".encode())
        assert beneath.getvalue() == "é\n"

    def test_guarded_returns_a_guarded_stream_as_it_is(self) -> None:
        stream = Stream(io.StringIO())
        assert guarded(stream) is stream


class TestEndsWhenLost:
    def test_block_ends_at_the_first_lost_write(self) -> None:
        stream, reached = Stream(Failing(FULL)), []
        with ends_when_lost(stream):
            stream.write("lost")
            reached.append("after")
        assert reached == []

    def test_writes_after_the_block_do_not_raise(self) -> None:
        stream = Stream(Failing(FULL))
        with ends_when_lost(stream):
            stream.write("lost")
        stream.write("dropped")


class TestLostOutputIsAnError:
    @pytest.mark.parametrize("code", [0, 3])
    def test_exit_code_becomes_1(self, code: int) -> None:
        out, err = Stream(Failing(FULL)), Stream(io.StringIO())
        out.write("lost")
        with pytest.raises(CommandError, match=SENTENCE) as raised, lost_output_is_an_error(out, err):
            raise SystemExit(code)
        assert raised.value.returncode == 1

    @pytest.mark.parametrize("ending", [SystemExit(130), SystemExit(143), CommandError("the list ended early")])
    def test_signal_or_error_keeps_its_own_ending(self, ending: BaseException) -> None:
        out, err = Stream(Failing(FULL)), Stream(told := io.StringIO())
        out.write("lost")
        with pytest.raises(type(ending)) as raised, lost_output_is_an_error(out, err):
            raise ending
        assert raised.value is ending
        assert told.getvalue().startswith(SENTENCE)
        assert told.getvalue().count("\n") == 1
