"""What a stack is asked to do, and how it is measured: time, CPU and memory of its own process, imports left out."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import re
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """A stack cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """The URLs of a file, one a line, with so many requests in flight.

    ``ca_file`` is the one authority to trust. ``directory`` is the stack's to write in; stacks that save find
    ``db.sqlite3`` there, empty but for the project's tables.
    """

    listing: str
    in_flight: int
    directory: str
    ca_file: str | None = None

    def urls(self) -> list[str]:
        return Path(self.listing).read_text().split()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class Report:
    """What a stack did: answers of status 200 and the bytes of their bodies (-1: not known), in so many seconds.

    ``cpu`` is seconds, of its threads and children as well. ``idle`` is the resident bytes just before the first
    request, ``peak`` the most since; both 0 where they are not known. ``whole`` is the seconds of a whole command, from
    its start to its end, ``connections`` how many the origin accepted meanwhile (0: not counted).
    """

    answers: int
    size: int
    seconds: float
    cpu: float
    idle: int
    peak: int
    whole: float = 0.0
    connections: int = 0


class Watch:
    """Measures from ``begin``, called when all but the fetching is done, to ``end``."""

    def begin(self) -> None:
        gc.collect()
        # What imports took at their highest is not the requests' (Linux: proc(5), clear_refs).
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._idle = _resident("VmRSS")
        self._cpu = _cpu()
        self._began = time.perf_counter()

    def end(self, answers: int, size: int) -> Report:
        seconds = time.perf_counter() - self._began
        return Report(answers, size, seconds, _cpu() - self._cpu, self._idle, _resident("VmHWM"))


Stack = Callable[[Job, Watch], Report]


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _resident(name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: a thousand requests in flight need as many sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def only_core() -> int | None:
    """Return the core that this process is kept on, or None."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return next(iter(cores)) if len(cores) == 1 else None
