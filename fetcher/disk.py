"""Room on the disks that a run fills: the SQLite file's, and the one of large bodies.

A database that finds its disk full has no room to say what became of a run. So a run does not begin, and does not go
on, below a reserve (``FETCHER_DISK_RESERVE``), which leaves it room to save what it has and to end in order. A database
server's disk is its own to watch, and so is a storage that is no folder here.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import shutil
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from django.core.files.storage import InvalidStorageError, storages
from django.db import connection

from fetcher.conf import Settings, fetcher_settings

EVERY = 1.0
"""Seconds between two looks while a run goes on."""
PLANNED_BYTES = 160
"""Bytes that a new URL takes in SQLite once it is planned, at least."""
RESULT_BYTES = 250
"""Bytes that its result takes, at least. Bodies come on top, and cannot be foreseen.

Both were measured by planning and recording 50,000 URLs of 30 characters on as many hosts as there are lanes, each
result with its own representation and a short detail, and dividing the growth of the file; then rounded down. See
``tests/fetcher/test_disk.py``, which measures the same with fewer.
"""
_SAMPLE = 64 * 2**10
_GZIP = b"\x1f\x8b"
_GZIP_FACTOR = 4
"""Bytes that a compressed byte of a list stands for, at least: lists of URLs usually pack tenfold."""
_MARKS = (b"<loc", b"xmlUrl")
"""What there is one of for each URL in a sitemap and in OPML."""


def free_bytes(folder: Path) -> int:
    """Return the bytes that this process may still write to a folder's disk."""
    return shutil.disk_usage(folder).free


class DiskNearlyFull(OSError):
    """Less is free than the reserve; the text names the folder and says how much is left."""

    def __init__(self, folder: Path, free: int, reserve: int) -> None:
        super().__init__(errno.ENOSPC, "")
        self._text = (
            f"the disk of {folder} is nearly full: {mebibytes(free)} are left, and {mebibytes(reserve)} are kept in "
            "reserve (FETCHER_DISK_RESERVE); make room there"
        )

    def __str__(self) -> str:
        return self._text


class DiskWatch:
    """Looks now and then whether the reserve is still there.

    ``folders`` are looked at, each disk once; 0 as the ``reserve`` (bytes) means never.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        reserve: int,
        *,
        free: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = _on_different_disks(folders) if reserve else []
        self._reserve = reserve
        self._free = free
        self._clock = clock
        self._next = clock()

    @classmethod
    def of_run(cls, *, keeps_bodies: bool = True) -> DiskWatch:
        """Return the watch over what a run fills. Raises ConfigError."""
        settings = fetcher_settings()
        folders = [database_folder(), body_folder(settings) if keeps_bodies else None]
        return cls([folder for folder in folders if folder is not None], settings.disk_reserve)

    def check(self) -> None:
        """Look now. Raises DiskNearlyFull."""
        self._next = self._clock() + EVERY
        for folder in self._folders:
            if (left := self._free(folder)) < self._reserve:
                raise DiskNearlyFull(folder, left, self._reserve)

    def look(self) -> None:
        """Look unless that was done within the last second. Raises DiskNearlyFull."""
        if self._folders and self._clock() >= self._next:
            self.check()


def sqlite_file() -> Path | None:
    """Return the database's file, None where it is no SQLite file."""
    if connection.vendor != "sqlite":
        return None
    name = str(connection.settings_dict["NAME"])
    return None if name.startswith(("file:", ":memory:")) else Path(name)


def database_folder() -> Path | None:
    """Return the folder of the SQLite file, None where there is none."""
    path = sqlite_file()
    return None if path is None else _existing(path.parent)


def body_folder(settings: Settings | None = None) -> Path | None:
    """Return the folder of the large bodies' storage, None where it is no folder here."""
    alias = (settings or fetcher_settings()).body_storage
    try:
        return _existing(Path(storages[alias].path("")))
    except (NotImplementedError, InvalidStorageError):
        return None


def mebibytes(size: int) -> str:
    """Return ``60 MiB``."""
    return f"{size / 2**20:,.0f} MiB"


def room_for(new: int, results: int) -> int:
    """Return the bytes that planning new URLs and recording results takes in SQLite, at least; 0 for others."""
    return new * PLANNED_BYTES + results * RESULT_BYTES if sqlite_file() is not None else 0


def urls_in(path: Path) -> int:
    """Return how many URLs a list has, judged by its size and its first 64 KiB; 0 where that says nothing.

    Only regular files are looked at, since what is read from others is gone.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return 0
        with path.open("rb") as file:
            head, size = file.read(_SAMPLE), status.st_size
        if head.startswith(_GZIP):
            with gzip.open(path) as packed:
                head, size = packed.read(_SAMPLE), size * _GZIP_FACTOR
    except (OSError, EOFError, ValueError):  # whoever reads it next says so
        return 0
    size = max(size, len(head))
    marks = max(head.count(mark) for mark in _MARKS)
    lines = marks or sum(1 for line in head.splitlines() if line.strip() and not line.startswith(b"#"))
    return size * lines // len(head) if head else 0


def shortage(urls: int) -> str | None:
    """Return the warning that there is too little room for so many URLs, None where there is enough.

    A bound from below, since bodies are not counted; and many URLs may be known already, so it is no error.
    """
    folder, reserve = database_folder(), fetcher_settings().disk_reserve
    if folder is None or not reserve or not urls:
        return None
    needed, left = room_for(urls, urls), free_bytes(folder)
    if left >= needed + reserve:
        return None
    return (
        f"warning: about {urls:,} URLs take at least {mebibytes(needed)} in the database, bodies not counted, and the "
        f"disk of {folder} has {mebibytes(left)} left; the run stops when {mebibytes(reserve)} are left "
        "(FETCHER_DISK_RESERVE)"
    )


def _existing(folder: Path) -> Path:
    """Return a folder, or the first above it that exists: that is where it would be made."""
    folder = folder.absolute()
    return next((path for path in itertools.chain([folder], folder.parents) if path.exists()), folder)


def _on_different_disks(folders: Iterable[Path]) -> list[Path]:
    return list({folder.stat().st_dev: folder for folder in reversed(list(folders))}.values())
