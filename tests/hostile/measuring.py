"""What an answer costs the process that fetches it: the loop's stillness and memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stillness import Stillness, watched_stillness

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs


@dataclass(slots=True)
class Cost:
    """``memory`` is by how many bytes the process grew at its peak, None where the system does not tell."""

    stillness: Stillness = field(default_factory=Stillness)
    memory: int | None = None


@contextlib.contextmanager
def measured_cost() -> Iterator[Cost]:
    """Measure the running loop and the process; the cost is filled in when the block ends."""
    before = _reset_peak()
    with watched_stillness() as stillness:
        cost = Cost(stillness)
        yield cost
    if before is not None:
        cost.memory = max(0, _kibibytes("VmHWM") * 1024 - before)


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
