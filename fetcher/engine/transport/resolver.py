"""Names to addresses: shared look-ups, answers that are kept, and whose fault it is where there is none."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fetcher.engine.descriptors import exhausted, local_fault
from fetcher.engine.errors import LocalFault, NameResolutionError
from fetcher.engine.transport.lookups import STALL_SECONDS, Job, Lookups

Lookup = Callable[[str], list[str]]
"""From a host name to its IP addresses, in order of preference. May block; raises ``socket.gaierror``."""

# Not every system has all of them.
_NO_SUCH_NAME = {getattr(socket, name, socket.EAI_NONAME) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")}
_CACHED_NAMES = 4096
_MOST_ADDRESSES = 64
"""A name server can answer with thousands of addresses, and the cache would keep them all."""
LINE_SECONDS = 1.0
"""Seconds that a name waits in line before its request is put off, so that it holds no slot meanwhile."""
CONTROL_NAME = "trawl.invalid"
"""A name that every name server answers at once, since it cannot exist (RFC 6761, section 6.4)."""
_MUTE = "no name server answers this machine, whatever the name; see /etc/resolv.conf and its network"


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
    """``ours`` says that it is no fault of the name's, ``answered`` that a name server told."""

    text: str
    permanent: bool = False
    ours: bool = False
    answered: bool = True

    def error(self) -> Exception:
        if self.ours:
            return LocalFault(self.text)
        return NameResolutionError(self.text, permanent=self.permanent)


_Answer = tuple[str, ...] | _Failure


@dataclass(slots=True, eq=False)
class _Question:
    """One look-up under way, shared by all who ask for the same name."""

    job: Job[_Answer]
    answer: asyncio.Future[_Answer]
    waiting: int = 0


class Resolver:
    """Looks names up; concurrent questions for one name are one look-up, answers are kept for ``ttl`` seconds.

    At most ``threads`` look-ups that do not stall run at once (see ``Lookups``); further ones wait in line, and a
    question that no caller waits for any more is dropped. Failures are kept for ``failure_ttl`` seconds. Belongs to one
    event loop.
    """

    def __init__(
        self, lookup: Lookup = system_lookup, *, threads: int = 32, ttl: float = 30.0, failure_ttl: float = 1.0
    ) -> None:
        self._lookup = lookup
        self._ttl = ttl
        self._failure_ttl = failure_ttl
        self._answers: OrderedDict[str, tuple[float, _Answer]] = OrderedDict()
        self._questions: dict[str, _Question] = {}
        self._lookups: Lookups[_Answer] = Lookups(self._look_up, threads=threads)
        self._answered_at = float("-inf")

    async def resolve(self, host: str) -> tuple[str, ...]:
        """Return the addresses of ``host`` as ``look_up`` does, which it takes as long as it takes."""
        return (await self.look_up(host, None))[0]

    async def look_up(self, host: str, timeout: float | None) -> tuple[tuple[str, ...], float]:  # noqa: ASYNC109
        """Return the addresses of ``host``, at least one, and how many seconds the look-up took.

        ``timeout`` bounds the look-up in seconds, from when it is under way; the wait in line does not count.
        Raises NameResolutionError; TimeoutError; LocalFault where this machine could look no name up.
        """
        if not host.isascii() or "\0" in host or not host:
            raise NameResolutionError(f"{host!r} is not a host name", permanent=True)
        answer, seconds = self._cached(host), 0.0
        if answer is None:
            answer, seconds = await self._ask(host, timeout)
        if isinstance(answer, _Failure):
            raise answer.error()
        return answer, seconds

    def known(self, host: str) -> tuple[str, ...] | None:
        """Return what was found not long ago, the same object each time; None where a look-up is needed."""
        answer = self._cached(host)
        return None if isinstance(answer, _Failure) else answer

    def close(self) -> None:
        """Let idle threads end. Those inside a look-up end when it does, or with the process."""
        self._lookups.close()

    def _cached(self, host: str) -> _Answer | None:
        kept = self._answers.get(host)
        if kept is None:
            return None
        expires, answer = kept
        if time.monotonic() < expires:
            return answer
        del self._answers[host]
        return None

    async def _ask(self, host: str, timeout: float | None) -> tuple[_Answer, float]:  # noqa: ASYNC109
        question = self._questions.get(host) or self._question(host)
        question.waiting += 1
        try:
            await self._wait_in_line(question)
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.wait([question.answer], timeout=STALL_SECONDS)
                    if not question.answer.done():
                        self._ask_control(began)
                    return await asyncio.shield(question.answer), loop.time() - began
            except TimeoutError:
                if self._is_mute(began):
                    raise LocalFault(_MUTE) from None
                raise
        finally:
            question.waiting -= 1
            if not question.waiting and question.job.since is None and self._questions.get(host) is question:
                question.job.dropped = True
                del self._questions[host]

    def _question(self, host: str) -> _Question:
        future = asyncio.get_running_loop().create_future()
        question = self._questions[host] = _Question(
            self._lookups.submit(host, lambda answer: self._deliver(question, answer)), future
        )
        return question

    async def _wait_in_line(self, question: _Question) -> None:
        try:
            async with asyncio.timeout(LINE_SECONDS):
                await asyncio.shield(question.job.begun)
        except TimeoutError:
            raise LocalFault("too many name look-ups wait for name servers that do not answer") from None

    def _ask_control(self, since: float) -> None:
        """Ask for a name that every name server answers at once, where none has answered since then."""
        if self._answered_at < since and CONTROL_NAME not in self._questions:
            self._question(CONTROL_NAME)

    def _is_mute(self, since: float) -> bool:
        """Whether no name server has answered since then, and the question of ``_ask_control`` stalls as well."""
        control = self._questions.get(CONTROL_NAME)
        if self._answered_at >= since or control is None or control.job.since is None:
            return False
        return asyncio.get_running_loop().time() - control.job.since >= STALL_SECONDS

    def _deliver(self, question: _Question, answer: _Answer) -> None:
        host = question.job.host
        if self._questions.get(host) is question:
            del self._questions[host]
        if not isinstance(answer, _Failure) or answer.answered:
            self._answered_at = asyncio.get_running_loop().time()
        ttl = self._failure_ttl if isinstance(answer, _Failure) else self._ttl
        if ttl > 0:
            self._answers[host] = (time.monotonic() + ttl, answer)
            self._answers.move_to_end(host)
            while len(self._answers) > _CACHED_NAMES:
                self._answers.popitem(last=False)
        if not question.answer.done():
            question.answer.set_result(answer)

    # In a thread

    def _look_up(self, host: str) -> _Answer:
        answer = _look_up(self._lookup, host)
        if isinstance(answer, _Failure) and not (answer.answered or answer.ours) and host != CONTROL_NAME:
            control = _look_up(self._lookup, CONTROL_NAME)
            if isinstance(control, _Failure) and not control.answered:
                return _Failure(_MUTE, ours=True, answered=False)
        return answer


def _look_up(lookup: Lookup, host: str) -> _Answer:
    try:
        addresses = tuple(lookup(host)[:_MOST_ADDRESSES])
    except socket.gaierror as exc:
        if (fault := exhausted()) is not None:
            return _Failure(str(fault), ours=True, answered=False)
        if exc.errno in _NO_SUCH_NAME:
            return _Failure(f"the name {host} does not exist", permanent=True)
        if exc.errno == socket.EAI_AGAIN:
            return _Failure(f"no name server answered for {host}", answered=False)
        return _Failure(f"the name {host} cannot be looked up: {exc.strerror}", ours=exc.errno == socket.EAI_MEMORY)
    except UnicodeError:
        return _Failure(f"{host!r} is not a host name", permanent=True)
    except OSError as exc:  # EAI_SYSTEM, as Python tells of it
        if exc.errno is None:
            return _Failure(f"the name {host} cannot be looked up: {exc}")
        fault = local_fault(exc.errno) or LocalFault(f"this machine cannot look names up: {exc.strerror}")
        return _Failure(str(fault), ours=True, answered=False)
    except Exception as exc:  # noqa: BLE001 - a thread has no caller to raise it to
        return _Failure(f"the name {host} cannot be looked up: {exc}")
    return addresses or _Failure(f"the name {host} has no address", permanent=True)
