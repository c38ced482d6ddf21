"""Blocking look-ups in threads of our own, so that name servers which do not answer hold up no other names.

``getaddrinfo`` cannot be interrupted, and asyncio waits for its own threads at exit: there a hung name server would
delay the end of the process. These threads are daemons, so nothing waits for them.

It is ``getaddrinfo`` and no resolver of our own (c-ares, say), because only it answers as every other program of the
machine does: /etc/hosts, nsswitch.conf and its modules, search domains, mDNS.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

A = TypeVar("A")

STALL_SECONDS = 1.0
"""Seconds after which a look-up counts as stalled: most take a tenth of that."""
MOST_THREADS = 256
"""Threads while look-ups stall."""


@dataclass(slots=True, eq=False)
class Job(Generic[A]):
    """The look-up of one name. ``begun`` is done once it is under way, since then (``since``, the loop's time)."""

    host: str
    begun: asyncio.Future[None]
    done: Callable[[A], None]
    since: float | None = None
    stalled: bool = False
    dropped: bool = False

    @property
    def suffix(self) -> str:
        """The last two labels of the name: what mostly has its name servers in common."""
        return ".".join(self.host.rstrip(".").rsplit(".", 2)[-2:]).lower()


@dataclass(slots=True)
class _Line(Generic[A]):
    """Jobs that wait, in turn over their suffixes."""

    jobs: OrderedDict[str, deque[Job[A]]] = field(default_factory=OrderedDict)

    def add(self, suffix: str, jobs: deque[Job[A]]) -> None:
        self.jobs.setdefault(suffix, deque()).extend(jobs)

    def next(self) -> Job[A] | None:
        while self.jobs:
            suffix, jobs = self.jobs.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self.jobs[suffix] = jobs
            if not job.dropped:
                return job
        return None


class Lookups(Generic[A]):
    """Runs ``work`` for names, as many at once as there are ``threads``, in turn over the names' suffixes.

    A look-up that stalls does not count among them: for it another thread is started, up to ``most_threads``. Names of
    which a look-up stalls under the same suffix come after the others, and have half of these threads at most.
    """

    def __init__(self, work: Callable[[str], A], *, threads: int = 32, most_threads: int = MOST_THREADS) -> None:
        self._work = work
        self._threads = threads
        self._most_threads = max(threads, most_threads)
        self._todo: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, Job[A]] | None] = queue.SimpleQueue()
        self._alive = 0
        self._idle = 0
        self._line: _Line[A] = _Line()
        self._stalled_line: _Line[A] = _Line()
        self._young: OrderedDict[Job[A], None] = OrderedDict()
        self._stalled: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stalled(self) -> int:
        """How many look-ups are under way and stalled."""
        return self._stalled.total()

    def submit(self, host: str, done: Callable[[A], None]) -> Job[A]:
        """Have a name looked up; ``done`` is called in the event loop with what ``work`` returned."""
        loop = asyncio.get_running_loop()
        job = Job(host, loop.create_future(), done)
        line = self._stalled_line if self._stalled[job.suffix] else self._line
        line.add(job.suffix, deque([job]))
        self._start(loop)
        return job

    def close(self) -> None:
        """Let idle threads end. Those inside a look-up end when it does, or with the process."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self._alive):
            self._todo.put(None)
        self._alive = self._idle = 0

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while (job := self._next()) is not None:
            job.since = now
            job.begun.set_result(None)
            self._young[job] = None
            if self._idle:
                self._idle -= 1
            else:
                self._alive += 1
                threading.Thread(target=self._run, name="trawl-resolver", daemon=True).start()
            self._todo.put((loop, job))
        if self._timer is None and (self._young or self._line.jobs or self._stalled_line.jobs):
            self._timer = loop.call_later(STALL_SECONDS / 4, self._look)

    def _next(self) -> Job[A] | None:
        running = len(self._young) + self.stalled
        if len(self._young) >= self._threads or running >= self._most_threads:
            return None
        job = self._line.next()
        if job is None and running < self._most_threads // 2:
            job = self._stalled_line.next()
        return job

    def _look(self) -> None:
        """Note which look-ups stall."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._young:
            job = next(iter(self._young))
            assert job.since is not None
            if loop.time() - job.since < STALL_SECONDS:
                break
            del self._young[job]
            job.stalled = True
            self._stalled[job.suffix] += 1
            if jobs := self._line.jobs.pop(job.suffix, None):
                self._stalled_line.add(job.suffix, jobs)
        self._start(loop)

    def _run(self) -> None:
        while (todo := self._todo.get()) is not None:
            loop, job = todo
            answer = self._work(job.host)
            # The loop may be gone by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end, loop, job, answer)

    def _end(self, loop: asyncio.AbstractEventLoop, job: Job[A], answer: A) -> None:
        if job.stalled:
            self._stalled[job.suffix] -= 1
            if not self._stalled[job.suffix]:
                del self._stalled[job.suffix]
                if jobs := self._stalled_line.jobs.pop(job.suffix, None):
                    self._line.add(job.suffix, jobs)
        else:
            self._young.pop(job, None)
        job.done(answer)
        if self._alive:  # it was not closed
            self._idle += 1
            if self._idle > self._threads:
                self._idle, self._alive = self._idle - 1, self._alive - 1
                self._todo.put(None)
            self._start(loop)
