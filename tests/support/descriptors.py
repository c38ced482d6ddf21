"""Which files this process has open."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

_DESCRIPTORS = Path("/proc/self/fd")


def open_files(folder: Path) -> list[str]:
    """Return the files of a folder that are open in this process, those that have no name any more as well."""
    if not _DESCRIPTORS.exists():
        pytest.skip("this system does not show a process's descriptors")
    found = []
    for descriptor in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/")]
