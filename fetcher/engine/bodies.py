"""Bodies that are too large for memory: in temporary files while they arrive, and until they are stored.

Such a file has no name, so it is gone with the process, however that ends. Where the folder is in memory itself (tmpfs,
as ``/tmp`` is on some systems), what is written there takes memory all the same, which a container's limit counts.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from io import FileIO
from threading import Lock
from typing import Any

from fetcher.engine.errors import SpillFailed

PIECE = 256 * 2**10
"""Bytes that are written, and read, at once."""
_THREADS = 4


class SpilledBody:
    """A body, or any bytes, in a temporary file in ``folder`` (None: the system's).

    Written first and read then, as often as it takes, by one thread at a time. ``closed`` hears when it is closed.
    """

    __slots__ = ("_closed", "_closing", "_file", "_folder", "_open", "_size", "writing")

    def __init__(
        self, folder: str | None = None, *, closed: Callable[[SpilledBody], object] = lambda body: None
    ) -> None:
        self.writing: Future[Any] | None = None
        """What writes to it in another thread, or did."""
        self._folder = folder
        self._closed = closed
        self._closing = Lock()
        self._file: FileIO | None = None
        self._open = True
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def beside(self) -> SpilledBody:
        """Return a new and empty one in the same folder."""
        return SpilledBody(self._folder)

    def write(self, pieces: Iterable[bytes | bytearray]) -> None:
        """Add to its end. Raises SpillFailed, and ValueError where it is closed."""
        if not self._open:
            raise ValueError("the body is closed")
        try:
            if self._file is None:  # not before: making a file may take as long as writing to it
                self._file = tempfile.TemporaryFile(buffering=0, prefix="trawl-", dir=self._folder)  # noqa: SIM115 - closed by close
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[self._file.write(left) :]
                self._size += len(piece)
        except OSError as exc:
            raise SpillFailed(self._folder or _system_folder(), exc) from exc

    def open(self) -> FileIO:
        """Return a file with all of it, from the beginning; the caller closes it. Raises ValueError where it is closed.

        Only one at a time: they share their position.
        """
        if not self._open or self._file is None:
            raise ValueError("the body is closed, or nothing was written")
        file = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=0)
        file.seek(0)
        return file

    def chunks(self, size: int = PIECE) -> Iterator[bytes]:
        """Yield all of it in chunks of at most ``size`` bytes. Raises ValueError where it is closed."""
        with self.open() as file:
            while chunk := file.read(size):
                yield chunk

    def read(self) -> bytes:
        """Return all of it at once. Raises ValueError where it is closed."""
        return b"".join(self.chunks())

    def close(self) -> None:
        """Remove the file once no write to it is running. Its length stays known. May be called again, by any thread.

        Returns only when the file is closed, even if another thread began to close it.
        """
        if self.writing is not None:
            wait([self.writing])  # or it might write to whatever has the descriptor next
        # FileIO.close marks the file as closed before the system call, which takes long for a large file: a second
        # caller would return while the descriptor is still open.
        with self._closing:
            self._open = False
            if self._file is not None:
                self._file.close()
        self._closed(self)


class Spilling:
    """Where bodies of more than ``threshold`` bytes go while they arrive: files in ``folder`` (None: the system's).

    Use as ``async with``: leaving it closes what nobody closed. Belongs to one event loop, which never waits for the
    disk.
    """

    def __init__(self, threshold: int, folder: str | None = None) -> None:
        self.threshold = threshold
        self._folder = folder
        self._bodies: set[SpilledBody] = set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="trawl-spill")

    async def __aenter__(self) -> Spilling:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await asyncio.shield(asyncio.wrap_future(self._threads.submit(self._close_all)))
        finally:
            self._threads.shutdown(wait=False)

    def begin(self) -> SpilledBody:
        """Return a new and empty body, which has no file until something is written to it."""
        body = SpilledBody(self._folder, closed=self._bodies.discard)
        self._bodies.add(body)
        return body

    async def add(self, body: SpilledBody | None, pieces: list[bytes | bytearray]) -> SpilledBody:
        """Write to a body's end, None for a new one, and return it. The list is emptied.

        Raises SpillFailed. Whatever it raises, a cancellation as well, the body is closed.
        """
        if body is None:
            body = self.begin()
        body.writing = self._threads.submit(body.write, pieces.copy())
        pieces.clear()
        try:
            await asyncio.wrap_future(body.writing)
        except BaseException:
            self.discard(body)
            raise
        return body

    def discard(self, body: SpilledBody | None) -> None:
        """Close a body, without waiting for that: giving back the room of a large file takes its time."""
        if body is None:
            return
        try:
            self._threads.submit(body.close)
        except RuntimeError:  # it was left meanwhile, which closed them all
            body.close()

    def _close_all(self) -> None:
        for body in self._bodies.copy():
            body.close()


def _system_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "the folder for temporary files"
