"""Room on the disks that a run fills: the SQLite file's, and the one of large bodies.

A database that finds its disk full has no room to say what became of a run. So a run does not begin, and does not go
on, below a reserve (``FETCHER_DISK_RESERVE``), which leaves it room to save what it has and to end in order. A database
server's disk is its own to watch, and so is a storage that is no folder here. The folder for temporary files is not
watched: nothing is saved there, so a run that finds it full (``SpillFailed``) can still be saved and ended; and one
without large bodies needs no room there, however small a container's ``/tmp`` is.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from django.core.files.storage import InvalidStorageError, storages
from django.db import connection

from fetcher.conf import Settings, fetcher_settings

EVERY = 1.0
"""Seconds between two looks while a run goes on."""
NEW_BYTES = 400
"""Bytes that a new URL takes in SQLite once it was fetched, its body's content not counted."""
KNOWN_BYTES = 100
"""Bytes that a URL takes which was fetched before and has not changed.

The first was measured by planning and recording 50,000 URLs of 28 characters on 256 hosts, each answered with three
headers and a body of its own of which only the hash is kept, and dividing the growth of the file: 110 bytes for
planning one, 337 for its result; then rounded down. ``tests/fetcher/test_disk.py`` measures the same with fewer.
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


def room_for(new: int, known: int = 0) -> int | None:
    """Return the bytes that so many URLs take in SQLite, about and at least; None where another database is used."""
    return None if sqlite_file() is None else new * NEW_BYTES + known * KNOWN_BYTES


def urls_in(lists: Iterable[Path]) -> int:
    """Return about how many URLs these files have, judged by their sizes and the first 64 KiB of each.

    Only regular files are looked at, since what is read from others is gone; what cannot be read counts nothing.
    """
    return sum(map(_urls_in, lists))


def shortage(new: int, known: int = 0) -> str | None:
    """Return the warning that there is too little room for so many URLs, None where there is enough.

    Bodies are not counted, and what is taken for new may be known already: it is no error.
    """
    folder, reserve, needed = database_folder(), fetcher_settings().disk_reserve, room_for(new, known)
    if folder is None or not reserve or not needed or (left := free_bytes(folder)) >= needed + reserve:
        return None
    return (
        f"warning: about {new + known:,} URLs take at least {mebibytes(needed)} of the database, without bodies; the "
        f"disk of {folder} has {mebibytes(left)} left, and a run stops when {mebibytes(reserve)} are "
        "(FETCHER_DISK_RESERVE)"
    )


def _existing(folder: Path) -> Path:
    """Return a folder, or the first above it that exists: that is where it would be made."""
    folder = folder.absolute()
    return next((path for path in itertools.chain([folder], folder.parents) if path.exists()), folder)


def _on_different_disks(folders: Iterable[Path]) -> list[Path]:
    return list({folder.stat().st_dev: folder for folder in reversed(list(folders))}.values())


def _urls_in(path: Path) -> int:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return 0
        with path.open("rb") as file:
            head, size = file.read(_SAMPLE), status.st_size
        if head.startswith(_GZIP):
            with gzip.open(path) as packed:
                head, size = packed.read(_SAMPLE), size * _GZIP_FACTOR
    except (OSError, EOFError, ValueError, zlib.error):  # whoever reads it next says so
        return 0
    size = max(size, len(head))
    marks = max(head.count(mark) for mark in _MARKS)
    lines = marks or sum(1 for line in head.splitlines() if line.strip() and not line.startswith(b"#"))
    return size * lines // len(head) if head else 0
