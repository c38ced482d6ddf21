"""Evaluator processes: where expressions run that cannot be proved to be cheap, so that they can be stopped.

The first use starts one, which later uses share one after the other; calls that run side by side have one each. It
knows nothing of this process: no settings, no environment, no file and no connection but the socket between the two.
When this process ends, however it does, the socket closes and the evaluator ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence

import msgspec

from fetcher.engine.bodies import SpilledBody
from fetcher.evaluator import Answer, Question, out_of_time, receive, send
from fetcher.texts import first_line

START_SECONDS = 20.0
"""Until an evaluator is ready to work, on a machine that is very busy; charged to nothing else."""
_LARGE_BYTES = 2**20
"""An evaluator that had a body larger than this, or was at a limit, is not kept: the memory may never come back."""
_SMALL_BYTES = 64 * 2**10
_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
"""All of the environment that it gets: what Python itself may need to start."""


Body = bytes | SpilledBody


class _Ended(Exception):
    """An evaluator ended, or was ended, before it answered. The text is the remark on the body that it had."""


class _OverBudget(Exception):
    """The call's time was over first."""


class _Evaluator:
    """One process. Raises OSError where it cannot be started."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "fetcher.evaluator"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for this process, which closes the socket when it ends
                    env=_environment(),
                )
        except BaseException:
            ours.close()
            raise
        self._socket = ours
        self._owner = os.getpid()
        self.is_worn = False
        _all.add(self)
        try:
            ours.settimeout(START_SECONDS)
            receive(ours, str)
        except EOFError:
            how = self._how()
            self.close()
            raise OSError(f"it ended at once {how}") from None
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, expression: str, bodies: Sequence[Body], answers: list[Answer], until: float) -> None:
        """Append the answers to these bodies. Raises _Ended, _OverBudget; then what was answered before is there."""
        self.is_worn = self.is_worn or any(len(body) > _LARGE_BYTES for body in bodies)
        first, wanted = len(answers), len(answers) + len(bodies)
        try:
            self._wait_until(until)
            send(self._socket, Question(expression, list(map(len, bodies))))
            for piece in _pieces(bodies):
                self._wait_until(until)
                self._socket.sendall(piece)
            while len(answers) < wanted:
                self._wait_until(until)
                received = receive(self._socket, list[Answer])
                self.is_worn = self.is_worn or any(answer.stopped for answer in received)
                answers += received
        except TimeoutError:
            raise _OverBudget from None
        except EOFError:
            raise _Ended(self._remark(len(bodies[len(answers) - first]))) from None
        except (OSError, msgspec.DecodeError) as exc:
            raise _Ended(f"the expression was not applied: its process cannot be reached: {first_line(exc)}") from None

    def _wait_until(self, moment: float) -> None:
        self._socket.settimeout(max(0.001, moment - time.monotonic()))

    def _remark(self, size: int) -> str:
        how = self._how()
        if self._process.returncode == -signal.SIGVTALRM:
            return out_of_time(size)
        return f"the expression was stopped: its process ended {how}"

    def _how(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"by {signal.Signals(-code).name}"
        return f"with exit code {code}"

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        _all.discard(self)
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """Leave the process to the one that this process was forked from."""
        self._socket.close()
        self._process.returncode = 0


class Sandbox:
    """An expression and a time for evaluating it. Use as a context manager; an evaluator starts with the first bodies.

    ``seconds`` are those of waiting for answers, all bodies together; starting a process is not among them.
    """

    def __init__(self, expression: str, seconds: float) -> None:
        self._expression = expression
        self._seconds = self._left = seconds
        self._evaluator: _Evaluator | None = None
        self._given_up = ""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if self._evaluator is not None:
            if kind is None and not self._evaluator.is_worn and not _idle:
                _idle.append(self._evaluator)
            else:
                self._evaluator.close()

    def answers(self, bodies: Sequence[Body]) -> list[Answer]:
        """Return the answer to each body. Where there is none, its remark says why."""
        answers: list[Answer] = []
        singly = False
        while len(answers) < len(bodies):
            if self._given_up:
                return answers + [Answer(None, self._given_up)] * (len(bodies) - len(answers))
            before = len(answers)
            asked = bodies[before : before + 1] if singly else bodies[before:]
            try:
                self._ask(asked, answers)
            except _Ended as exc:
                # Answers come in groups, so several bodies may be without one: the next tries find the one at fault.
                if len(asked) == 1:
                    answers.append(Answer(None, str(exc), stopped=True))
                    singly = False
                else:
                    singly = True
        return answers

    def _ask(self, bodies: Sequence[Body], answers: list[Answer]) -> None:
        if self._left <= 0:
            self._give_up()
            return
        if self._evaluator is None:
            try:
                self._evaluator = _take() or _Evaluator()
            except OSError as exc:
                self._given_up = f"the expression was not applied: its process cannot be started: {first_line(exc)}"
                return
        began = time.monotonic()
        try:
            self._evaluator.ask(self._expression, bodies, answers, began + self._left)
        except BaseException as exc:
            self._evaluator.close()
            self._evaluator = None
            if not isinstance(exc, _OverBudget):
                raise
            self._give_up()
        finally:
            self._left -= time.monotonic() - began

    def _give_up(self) -> None:
        self._given_up = (
            f"the expression was not applied: it took more than {max(0.0, self._seconds):.3g} s for the answers that "
            "were taken together with this one"
        )


def _pieces(bodies: Sequence[Body]) -> Iterator[bytes]:
    """Yield all bytes of these bodies, small ones together and those in files piece by piece."""
    small: list[bytes] = []
    for body in bodies:
        for piece in body.chunks() if isinstance(body, SpilledBody) else (body,):
            if len(piece) < _SMALL_BYTES:
                small.append(piece)
            else:
                yield b"".join(small)
                yield piece
                small.clear()
    yield b"".join(small)


_all: weakref.WeakSet[_Evaluator] = weakref.WeakSet()
_idle: list[_Evaluator] = []


def _take() -> _Evaluator | None:
    """Return an evaluator that is not in use, None where there is none."""
    while True:
        try:
            found = _idle.pop()
        except IndexError:
            return None
        if found.alive:
            return found
        found.close()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - an entry may be empty, this folder
    return {"PYTHONPATH": path, **{name: os.environ[name] for name in _INHERITED if name in os.environ}}


def _forget() -> None:
    """Close, after a fork, the copies of the sockets: an open one would keep an evaluator alive after its parent."""
    for evaluator in list(_all):
        evaluator.disown()
    _all.clear()
    _idle.clear()


def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


atexit.register(_close_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
