"""Reading a source in a thread of its own: it may block (a pipe), and a tick must pass all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterable

from fetcher.sources import Entry

CAPACITY = 10_000
"""Entries read ahead of planning, at most."""
FIRST_TICK = 0.05
"""Seconds in which the first entries are collected: fetching should begin at once."""
TICK = 0.5
"""Seconds in which later ones are, unless the buffer is full before."""


class BufferedReader:
    """Reads entries ahead and hands them out in batches."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self._buffer: list[Entry] = []
        self._room = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        # A daemon: a pipe that never ends must not keep the process from ending.
        self._thread = threading.Thread(target=self._read, name="trawl-reader", daemon=True)

    async def batches(self) -> AsyncIterator[list[Entry]]:
        """Yield what was read, about every tick. Raises what the source raised, after everything before it."""
        self._thread.start()
        tick = FIRST_TICK
        while True:
            await self._news.wait()
            if not self._ended:
                await self._pause(tick)
            tick = TICK
            self._news.clear()
            with self._room:
                batch, self._buffer = self._buffer, []
                ended = self._ended
                self._room.notify()
            if batch:
                yield batch
            if ended:
                break
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Let the thread end; it may still be blocked in a read."""
        with self._room:
            self._stopped = True
            self._room.notify()

    async def _pause(self, seconds: float) -> None:
        """Wait while the buffer fills: until the tick is over, it is full, or the source ends."""
        deadline = self._loop.time() + seconds
        # Polled: an event for each entry from another thread would cost more than the entry.
        while not self._ended and len(self._buffer) < CAPACITY and self._loop.time() < deadline:
            await asyncio.sleep(0.02)

    def _read(self) -> None:
        try:
            for entry in self._entries:
                with self._room:
                    while len(self._buffer) >= CAPACITY and not self._stopped:
                        self._room.wait()
                    if self._stopped:
                        return
                    self._buffer.append(entry)
                    first = len(self._buffer) == 1
                if first:
                    self._tell()
        except BaseException as exc:  # noqa: BLE001  (handed to whoever reads the batches)
            self._error = exc
        finally:
            if isinstance(self._entries, Generator):  # stopped in the middle, it still has its file open
                self._entries.close()
            self._ended = True
            self._tell()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop is closed: nobody is interested any more
            self._stopped = True
