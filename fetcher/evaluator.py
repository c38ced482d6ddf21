"""``python -m fetcher.evaluator``: evaluates JMESPath expressions where that can be stopped.

``fetcher.sandbox`` starts it. Its standard input is a socket. It reads a ``Question`` and the bodies, one after the
other, and writes lists of ``Answer``, one for each body in their order, as soon as some have taken ``_FLUSH_SECONDS``.
It ends when the socket is closed, so it does not outlive its parent by more than one body.

Each body has so much processor time and memory, more for a large one. Python itself stops what is over its time; what
does not come back to Python, a sort in C, ends the process. A frame is its length in 8 bytes, most significant first,
and a MessagePack value.
"""

from __future__ import annotations

import contextlib
import gc
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

import msgspec
from jmespath.parser import ParsedResult

from fetcher.expressions import NotExtracted, compile_expression, evaluate, is_json_text

CPU_SECONDS = 1.0
"""Processor time for one body."""
CPU_SECONDS_PER_MIB = 0.1
"""Processor time for each MiB of it, on top."""
MEMORY = 256 * 2**20
"""Bytes that one body may take while it is read and searched."""
MEMORY_PER_BYTE = 10
"""Bytes for each byte of it, on top: a copy in transit, and the objects that it becomes."""
_GRACE_CPU_SECONDS = 1.0
"""Processor time after which the process ends that did not come back to Python."""
_FLUSH_SECONDS = 0.05
_FLUSH_BYTES = 2**20
_LENGTH = struct.Struct("!Q")
_T = TypeVar("_T")


class Question(msgspec.Struct, array_like=True):
    """What to evaluate on bodies of these sizes; an empty expression asks whether they are JSON (``is_json_text``)."""

    expression: str
    sizes: list[int]


class Answer(msgspec.Struct, array_like=True):
    """A value as JSON, None for nothing. ``remark`` says what kept us from it, ``stopped`` that a limit did."""

    json: bytes | None
    remark: str = ""
    stopped: bool = False


class _OutOfTime(BaseException):
    """Raised into the evaluation; no handler of a library's catches it."""


def cpu_seconds(size: int) -> float:
    """Return the processor time for a body of so many bytes."""
    return CPU_SECONDS + CPU_SECONDS_PER_MIB * (size / 2**20)


def send(channel: socket.socket, value: object) -> None:
    """Send a frame. Raises OSError, TimeoutError by the channel's timeout."""
    content = msgspec.msgpack.encode(value)
    channel.sendall(_LENGTH.pack(len(content)))
    channel.sendall(content)


def receive(channel: socket.socket, kind: type[_T]) -> _T:
    """Receive a frame. Raises EOFError where the other side is gone, OSError, TimeoutError by the channel's timeout."""
    (size,) = _LENGTH.unpack(_read(channel, _LENGTH.size))
    return msgspec.msgpack.decode(_read(channel, size), type=kind)


def _read(channel: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        count = channel.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return content


def serve(channel: socket.socket) -> None:
    """Answer questions. To be called in the main thread of a process of its own.

    Raises EOFError, OSError once the other side is gone.
    """
    signal.signal(signal.SIGPROF, _stop)
    gc.freeze()
    gc.disable()  # JSON has no cycles, and looking for some in millions of lists takes longer than making them
    limit_memory = _memory_limiter()
    limit_memory(0)
    send(channel, "ready")
    compiled: dict[str, ParsedResult] = {}
    while True:
        question = receive(channel, Question)
        limit_memory(sum(question.sizes))
        bodies = [_read(channel, size) for size in question.sizes]
        if question.expression and question.expression not in compiled:
            compiled = {question.expression: compile_expression(question.expression)}
        _answer_all(channel, compiled.get(question.expression), bodies)
        bodies.clear()
        gc.collect()


def _answer_all(channel: socket.socket, expression: ParsedResult | None, bodies: list[bytearray]) -> None:
    answers: list[Answer] = []
    size, flushed = 0, time.monotonic()
    for body in bodies:
        answer = _answer(expression, body)
        answers.append(answer)
        size += len(answer.json or b"")
        if size > _FLUSH_BYTES or time.monotonic() - flushed > _FLUSH_SECONDS:
            send(channel, answers)
            answers, size, flushed = [], 0, time.monotonic()
    if answers:
        send(channel, answers)


def _answer(expression: ParsedResult | None, body: bytearray) -> Answer:
    seconds = cpu_seconds(len(body))
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds + _GRACE_CPU_SECONDS)  # SIGVTALRM ends the process
        try:
            if expression is None:
                return Answer(b"true" if is_json_text(body) else None)
            value = evaluate(expression, body)
            return Answer(None if value is None else json.dumps(value, ensure_ascii=False).encode())
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    except NotExtracted as exc:
        return Answer(None, str(exc))
    except _OutOfTime:
        return Answer(None, out_of_time(len(body)), stopped=True)
    except MemoryError:
        allowed = _allowed(len(body)) >> 20
        return Answer(None, f"the expression was stopped: it took more than {allowed} MiB of memory", stopped=True)


def out_of_time(size: int) -> str:
    """Return the remark on a body of so many bytes whose time was over."""
    return f"the expression was stopped after {cpu_seconds(size):.3g} s of processor time"


def _stop(number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


def _allowed(size: int) -> int:
    return MEMORY + MEMORY_PER_BYTE * size


def _memory_limiter() -> Callable[[int], None]:
    """Return the function that limits this process's memory, beyond what it has now, for so many bytes of bodies.

    Its address space where the system tells how large that is (Linux); its data otherwise, which macOS counts in part.
    """
    try:
        import resource
    except ImportError:  # not on this platform: the fetching process, which imports this module, needs none of it
        return lambda size: None
    kind, base = resource.RLIMIT_DATA, 0
    with contextlib.suppress(OSError, ValueError):
        base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        kind = resource.RLIMIT_AS
    hard = resource.getrlimit(kind)[1]

    def limit(size: int) -> None:
        wanted = base + _allowed(size)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))

    return limit


def main() -> None:
    """Serve the socket that is standard input."""
    with contextlib.suppress(OSError):  # what is killed first where memory is short
        Path("/proc/self/oom_score_adj").write_text("1000")
    with socket.socket(fileno=sys.stdin.fileno()) as channel, contextlib.suppress(EOFError, OSError):
        serve(channel)


if __name__ == "__main__":
    main()
