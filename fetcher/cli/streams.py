"""The standard streams of a command: a stream that cannot be written costs what it would have shown, nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

SIGNAL_CODES = 128
"""A command that a signal stops exits with this plus the signal's number."""


class StreamLost(Exception):
    """A stream cannot be written. No OSError: those mean the disk of the database or of large bodies."""


class Stream:
    """A text stream that drops what it cannot write and remembers why.

    ``stream`` is None where the process was started with a closed descriptor (``>&-``). ``failure`` is what the first
    failed write raised, None so far. Later writes are dropped. Only in ``ends_when_lost`` does a write raise.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        self.raises = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text and return its length. Raises StreamLost in ``ends_when_lost``."""
        if text:
            self._attempt(lambda: self._stream.write(text))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write UTF-8 bytes as they are. Raises StreamLost in ``ends_when_lost``."""
        buffer = getattr(self._stream, "buffer", None)
        if data:
            self._attempt(lambda: self._stream.write(data.decode()) if buffer is None else buffer.write(data))

    def flush(self) -> None:
        """Write what is buffered. Raises StreamLost in ``ends_when_lost``."""
        if hasattr(self._stream, "flush"):
            self._attempt(self._stream.flush)

    def problem(self) -> str:
        """Return what a person must know of lost text; nothing where all was written or its reader has left."""
        if self.failure is None or isinstance(self.failure, BrokenPipeError):
            return ""
        reason = (self.failure.strerror or str(self.failure)).lower()
        return f"standard output cannot be written: {reason}. The output is incomplete; what was saved is not affected"

    def _attempt(self, write: Callable[[], object]) -> None:
        if self._stream is None:
            self.failure = OSError("it is closed")
        if self.failure is None:
            try:
                write()
            except OSError as exc:
                self.failure = exc
                self._discard()
        if self.failure is not None and self.raises:
            raise StreamLost

    def _discard(self) -> None:
        """Send what is still buffered nowhere: the interpreter would fail over it at exit, with code 120."""
        if self._stream is None or self._stream not in (sys.__stdout__, sys.__stderr__):
            return  # a caller's own
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), self._stream.fileno())


def guarded(stream: Any) -> Stream:
    """Return a stream whose writes never fail; a guarded stream is returned unchanged."""
    return stream if isinstance(stream, Stream) else Stream(stream)


def raw_stream(wrapper: OutputWrapper) -> Any:
    """Return the guarded stream beneath Django's wrapper, which ends every write with a line break."""
    return guarded(getattr(wrapper, "_out", wrapper))


def use_utf8(stream: Any) -> None:
    """Have UTF-8 written whatever the locale is: JSON is nothing else, and no character may end a run."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def ends_when_lost(stream: Stream) -> Iterator[None]:
    """End the block quietly at the first write that fails: for work that only prints, and may print for long."""
    stream.raises = True
    try:
        yield
    except StreamLost:
        pass
    finally:
        stream.raises = False


@contextlib.contextmanager
def lost_output_is_an_error(out: Stream, err: Stream) -> Iterator[None]:
    """Flush both streams at the block's end. Raises CommandError (1) where ``out`` could not be written.

    A block that fails or that a signal stops keeps its own exit code; a line on ``err`` then reports the loss.
    """
    try:
        yield
    except BaseException as exc:
        out.flush()
        if problem := out.problem():
            if isinstance(exc, SystemExit) and not _was_signalled(exc):
                raise CommandError(problem) from None
            err.write(f"{problem}\n")
        raise
    else:
        out.flush()
        if problem := out.problem():
            raise CommandError(problem)
    finally:
        err.flush()


def _was_signalled(ending: SystemExit) -> bool:
    return isinstance(ending.code, int) and ending.code > SIGNAL_CODES
