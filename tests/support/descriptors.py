"""Bodies in temporary files, which files this process has open, and limits on them."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetcher.engine.bodies import SpilledBody

_DESCRIPTORS = Path("/proc/self/fd")


def spilled(folder: Path, content: bytes) -> SpilledBody:
    """Return a body in a temporary file of this folder."""
    body = SpilledBody(str(folder))
    body.write([content])
    return body


def open_files(folder: Path) -> list[str]:
    """Return the files of a folder that are open in this process, those that have no name any more as well."""
    if not _DESCRIPTORS.exists():
        pytest.skip("this system does not show a process's descriptors")
    found = []
    for descriptor in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/")]


@contextlib.contextmanager
def soft_limit(count: int) -> Iterator[None]:
    """Let this process have so many files open until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Have nothing more opened in this process until the block ends; what is open stays usable."""
    opened = [os.open(os.devnull, os.O_RDONLY)]
    with soft_limit(opened[0] + 1), contextlib.ExitStack() as stack:
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for descriptor in opened:
                stack.callback(os.close, descriptor)
        yield
