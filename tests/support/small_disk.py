"""A disk of a few mebibytes, to be filled."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


class CannotMount(Exception):
    """This user or system cannot make one; the text says why."""


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a disk of this size on a folder until the block ends. Raises CannotMount."""
    folder.mkdir()
    if sys.platform != "linux":
        raise CannotMount("a small disk needs Linux's tmpfs")
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "trawl-test", str(folder))
    except (OSError, subprocess.CalledProcessError) as exc:
        raise CannotMount(f"a small disk cannot be mounted here: {getattr(exc, 'stderr', exc)}") from None
    try:
        yield folder
    finally:
        _run("umount", "-l", str(folder))


def fill(folder: Path, *, leave: int) -> None:
    """Write a file that leaves so many bytes of a disk free, about."""
    with (folder / "filler").open("ab") as file:
        file.write(bytes(max(0, shutil.disk_usage(folder).free - leave)))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
