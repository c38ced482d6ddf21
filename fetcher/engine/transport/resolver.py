"""Names to addresses, in threads of our own.

``getaddrinfo`` cannot be interrupted, and asyncio waits for its own threads at exit: there a hung name server would
delay the end of the process. These threads are daemons, so nothing waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fetcher.engine.errors import NameResolutionError

Lookup = Callable[[str], list[str]]
"""From a host name to its IP addresses, in order of preference. May block; raises ``socket.gaierror``."""

# Not every system has all of them.
_NO_SUCH_NAME = {getattr(socket, name, socket.EAI_NONAME) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")}
_CACHED_NAMES = 4096
_MOST_ADDRESSES = 64
"""An answer may hold thousands, which whoever runs the name server chooses, and which would all be kept."""


def system_lookup(host: str) -> list[str]:
    """Ask the system's resolver. A link-local address keeps its scope as ``%number``."""
    # As bytes: for text Python would apply its own, outdated IDNA first. URLs are ASCII already.
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    addresses = [
        f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0])
        for _, _, _, _, address in found
    ]
    return list(dict.fromkeys(addresses))


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    permanent: bool


_Answer = tuple[str, ...] | _Failure


@dataclass(slots=True, eq=False)
class _Question:
    """One look-up under way, shared by everybody who asks for the same name."""

    host: str
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[_Answer]
    waiting: int
    started: bool = False


class Resolver:
    """Looks names up; concurrent questions for one name are one look-up, answers are kept for ``ttl`` seconds.

    At most ``threads`` look-ups run at once; further ones wait in line, and a question that nobody waits for any more
    is dropped. Failures are kept for ``failure_ttl`` seconds. Belongs to one event loop.
    """

    def __init__(
        self, lookup: Lookup = system_lookup, *, threads: int = 32, ttl: float = 30.0, failure_ttl: float = 1.0
    ) -> None:
        self._lookup = lookup
        self._most_threads = threads
        self._ttl = ttl
        self._failure_ttl = failure_ttl
        self._answers: OrderedDict[str, tuple[float, _Answer]] = OrderedDict()
        self._questions: dict[str, _Question] = {}
        self._line: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._threads = 0

    async def resolve(self, host: str) -> tuple[str, ...]:
        """Return the addresses of ``host``, at least one. Raises NameResolutionError.

        Waits as long as the look-up takes: the caller sets the bound, by cancelling.
        """
        if not host.isascii() or "\0" in host or not host:
            raise NameResolutionError(f"{host!r} is not a host name", permanent=True)
        answer = self._cached(host)
        if answer is None:
            answer = await self._ask(host)
        if isinstance(answer, _Failure):
            raise NameResolutionError(answer.text, permanent=answer.permanent)
        return answer

    def known(self, host: str) -> tuple[str, ...] | None:
        """Return what was found not long ago, the same object each time; None where a look-up is needed."""
        answer = self._cached(host)
        return None if isinstance(answer, _Failure) else answer

    def close(self) -> None:
        """Let idle threads end. Those inside a look-up end when it does, or with the process."""
        for _ in range(self._threads):
            self._line.put(None)
        self._threads = 0

    def _cached(self, host: str) -> _Answer | None:
        kept = self._answers.get(host)
        if kept is None:
            return None
        expires, answer = kept
        if time.monotonic() < expires:
            return answer
        del self._answers[host]
        return None

    async def _ask(self, host: str) -> _Answer:
        question = self._questions.get(host)
        if question is None:
            loop = asyncio.get_running_loop()
            question = self._questions[host] = _Question(host, loop, loop.create_future(), waiting=1)
            self._line.put(question)
            # One thread for each question under way, up to the bound; they stay for the next ones.
            if self._threads < min(self._most_threads, len(self._questions)):
                self._threads += 1
                threading.Thread(target=self._work, name="trawl-resolver", daemon=True).start()
        else:
            question.waiting += 1
        try:
            return await asyncio.shield(question.answer)
        finally:
            question.waiting -= 1
            if not question.waiting and not question.started and self._questions.get(host) is question:
                del self._questions[host]

    def _work(self) -> None:
        while (question := self._line.get()) is not None:
            if not question.waiting:
                continue
            question.started = True
            answer = _look_up(self._lookup, question.host)
            # The loop may be gone by now.
            with contextlib.suppress(RuntimeError):
                question.loop.call_soon_threadsafe(self._deliver, question, answer)

    def _deliver(self, question: _Question, answer: _Answer) -> None:
        if self._questions.get(question.host) is question:
            del self._questions[question.host]
        ttl = self._failure_ttl if isinstance(answer, _Failure) else self._ttl
        if ttl > 0:
            self._answers[question.host] = (time.monotonic() + ttl, answer)
            self._answers.move_to_end(question.host)
            while len(self._answers) > _CACHED_NAMES:
                self._answers.popitem(last=False)
        if not question.answer.done():
            question.answer.set_result(answer)


def _look_up(lookup: Lookup, host: str) -> _Answer:
    try:
        addresses = tuple(lookup(host)[:_MOST_ADDRESSES])
    except socket.gaierror as exc:
        if exc.errno in _NO_SUCH_NAME:
            return _Failure(f"the name {host} does not exist", permanent=True)
        if exc.errno == socket.EAI_AGAIN:
            return _Failure(f"no name server answered for {host}", permanent=False)
        return _Failure(f"the name {host} cannot be looked up: {exc.strerror}", permanent=False)
    except UnicodeError:
        return _Failure(f"{host!r} is not a host name", permanent=True)
    except Exception as exc:  # noqa: BLE001 - a thread has nobody else to tell
        return _Failure(f"the name {host} cannot be looked up: {exc}", permanent=False)
    return addresses or _Failure(f"the name {host} has no address", permanent=True)
