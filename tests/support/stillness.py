"""How long an event loop stood still, measured so that a busy machine does not count."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

_TICK_SECONDS = 0.001


@dataclass
class Stillness:
    """The longest gaps between two turns of the loop, in seconds.

    ``on_loop`` is processor time of the loop's own thread: work done on the loop. Waiting for another process adds
    nothing to it. ``in_process`` is the lesser of the time that passed and the processor time of all threads: it also
    rises if another thread keeps the interpreter's lock. If threads work beside the loop, a busy machine can raise it
    too: take the best of several tries.
    """

    on_loop: float = 0.0
    in_process: float = 0.0


@contextlib.contextmanager
def watched_stillness() -> Iterator[Stillness]:
    """Measure the running loop until the block ends."""
    loop = asyncio.get_running_loop()
    found = Stillness()
    last = _clocks()
    timer: asyncio.TimerHandle | None = None

    def measure() -> None:
        nonlocal last
        now = _clocks()
        thread, process, wall = (after - before for after, before in zip(now, last, strict=True))
        found.on_loop = max(found.on_loop, thread)
        found.in_process = max(found.in_process, min(process, wall))
        last = now

    def tick() -> None:
        nonlocal timer
        measure()
        timer = loop.call_later(_TICK_SECONDS, tick)

    tick()
    try:
        yield found
    finally:
        assert timer is not None
        timer.cancel()
        measure()


def _clocks() -> tuple[float, float, float]:
    return time.thread_time(), time.process_time(), time.monotonic()
