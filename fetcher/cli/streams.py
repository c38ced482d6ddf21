"""The commands' streams, and the end of those who read them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import OutputWrapper


def raw_stream(wrapper: OutputWrapper) -> Any:
    """Return the stream beneath Django's wrapper, which ends every write with a line break."""
    return getattr(wrapper, "_out", wrapper)


def use_utf8(stream: Any) -> None:
    """Have UTF-8 written whatever the locale is: JSON is nothing else, and no character may end a run."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def closed_pipe_is_fine() -> Iterator[None]:
    """End the block quietly when nobody reads standard output any more."""
    try:
        yield
    except BrokenPipeError:
        discard_stdout()


def discard_stdout() -> None:
    """Keep the interpreter from failing at exit over what it could not write."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
