"""Bodies in temporary files, and which files this process has open."""

from __future__ import annotations

import contextlib
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
