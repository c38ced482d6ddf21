"""What an answer costs the process that fetches it: the loop's stillness, its time, its memory."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK_SECONDS = 0.005
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs


@dataclass(slots=True)
class Cost:
    """Filled in when the measurement ends. ``still`` is the most CPU seconds for which the loop served nothing else.

    CPU time of the loop's thread, for on a busy machine the clock would count other processes' turns as well.
    ``memory`` is by how many bytes the process grew at its peak, None where the system does not tell.
    """

    seconds: float = 0.0
    still: float = 0.0
    memory: int | None = None


class Measurement:
    """Measures what happens inside ``async with``, which gives the Cost."""

    def __init__(self) -> None:
        self._cost = Cost()

    async def __aenter__(self) -> Cost:
        self._before = _reset_peak()
        self._began = time.monotonic()
        self._ticking = asyncio.create_task(self._tick())
        return self._cost

    async def __aexit__(self, *exc_info: object) -> None:
        self._cost.seconds = time.monotonic() - self._began
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking
        if self._before is not None:
            self._cost.memory = max(0, _kibibytes("VmHWM") * 1024 - self._before)

    async def _tick(self) -> None:
        # Of the CPU time between two ticks one tick's worth may have been many short turns; the rest was one long one.
        while True:
            before = time.thread_time()
            try:
                await asyncio.sleep(_TICK_SECONDS)
            finally:
                used = time.thread_time() - before - _TICK_SECONDS
                self._cost.still = max(self._cost.still, used)


def _reset_peak() -> int | None:
    """Forget the process's peak of memory, and return the bytes that it has now."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return None
    return _kibibytes("VmRSS") * 1024


def _kibibytes(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
