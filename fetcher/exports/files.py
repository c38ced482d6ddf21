"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing under a temporary name beside it; it gets its own name when the block ends well.

    What is no regular file (a pipe, a device) is written directly. Raises OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as special:
            yield special
        return
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        file = part.open("xb")
    except OSError as exc:  # nobody knows the temporary name
        raise OSError(exc.errno, exc.strerror, str(path)) from None
    try:
        with file:
            yield file
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def regular_size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None for what is not there, or is a link or anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
