"""One run from a command's point of view: progress, output, signals and exit codes around the service."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, InterfaceError, connection

from fetcher.cli.output import ResultPrinter
from fetcher.cli.progress import Reporter
from fetcher.cli.streams import ends_when_lost, raw_stream, use_utf8
from fetcher.cli.telling import Telling
from fetcher.cli.text import count
from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe
from fetcher.dispatch import DispatchError
from fetcher.engine.config import ConfigError
from fetcher.engine.control import Control
from fetcher.listener import Listener, Resumed
from fetcher.models import RunState
from fetcher.progress import Progress
from fetcher.secrets import UnsealError
from fetcher.sources import Entry, SourceError
from fetcher.store.lanes import PlanLost
from fetcher.store.runs import NotResumable

SOME_FAILED = 3
FETCHED = Telling()
_REJECTED_SHOWN = 20


Execution = Callable[[Listener, Control], Coroutine[Any, Any, RunState]]
"""Fetches a run as the service does, telling the listener and heeding the control."""


def follow(
    execution: Execution,
    *,
    stdout: OutputWrapper,
    stderr: OutputWrapper,
    source: str = "",
    output: str = "summary",
    progress_style: str = "auto",
    exit_zero: bool = False,
    quiet: bool = False,
    telling: Telling = FETCHED,
) -> Progress:
    """Fetch with everything that a command shows of it; ``source`` is what to call the input where it is empty.

    ``telling`` has the words for how it ended. A ``quiet`` command prints nothing while all is well, but for the JSON
    that it was asked for; otherwise messages and summary go to standard error. Returns only where the exit code is 0;
    raises SystemExit (3, 130, 143) and CommandError (1) otherwise.
    """
    reporter = Reporter(progress_style, raw_stream(stderr), quiet=quiet)
    out = raw_stream(stdout)
    use_utf8(out)
    listener = Listener(
        rejected=Rejections(reporter),
        resumed=lambda found: reporter.message(_resuming(found)),
        message=reporter.message,
    )
    if output == "ndjson":
        listener.recorded = ResultPrinter(out).print_results
    progress = listener.progress
    ending = _Ending()
    with reporter.releasing():
        with _Signals(lambda number: _leave(number, listener, reporter, telling)) as signals:
            with clear_errors(progress, telling):
                asyncio.run(_run(execution, listener, reporter, ending, signals, telling))
                connection.close()  # this thread's, idle until now: a server that was restarted has forgotten it
            with clear_errors(progress, telling), ends_when_lost(out):
                if progress.run and not (quiet and output == "summary"):
                    telling.show(out, progress, ending.state, output)
                out.flush()
                if progress.run and quiet and telling.is_flawed(progress):
                    reporter.release()
                    telling.show(raw_stream(stderr), progress, ending.state, "summary")
        _check_ending(ending, signals.heard, progress, telling, reporter)
        if source and not progress.accepted and not progress.rejected:
            reporter.message(f"there is no URL in {source}")
        if telling.is_flawed(progress) and not exit_zero:
            raise SystemExit(SOME_FAILED)
    return progress


def _check_ending(
    ending: _Ending, signal_heard: int | None, progress: Progress, telling: Telling, reporter: Reporter
) -> None:
    """Raise CommandError (1) or SystemExit (130, 143) where a run did not end as it should."""
    if ending.error is not None:
        raise CommandError(ending.error)
    if signal_heard is not None and ending.state != RunState.COMPLETED:
        reporter.message(telling.stopped(progress))
        raise SystemExit(128 + signal_heard)
    if problem := telling.unfinished(progress, ending.state):
        raise CommandError(problem)


def _resuming(found: Resumed) -> str:
    text = f"resuming run {found.run}: {count(found.done)} of {count(found.accepted, 'target')} have a result"
    if found.lost:
        return f"{text}; its input ended at {found.read_to}: {found.lost}"
    return text if found.planned else f"{text}; reading on after {found.read_to}"


@dataclass(slots=True)
class _Ending:
    """How a run ended: its state, or what is wrong with its source."""

    state: str | None = None
    error: str | None = None


@contextlib.contextmanager
def clear_errors(progress: Progress | None = None, telling: Telling = FETCHED) -> Iterator[None]:
    """Turn what a user or an operator can mend into one line."""
    try:
        yield
    except (ConfigError, UnsealError, DispatchError) as exc:
        raise CommandError(str(exc)) from None
    except (DatabaseError, InterfaceError, OSError) as exc:  # OSError: a full disk, the file storage of large bodies
        text = describe(exc)
        if progress and progress.run:
            text = f"run {progress.run}: {text}. {telling.how_to_go_on(progress)}"
        raise CommandError(text) from exc


async def _run(
    execution: Execution,
    listener: Listener,
    reporter: Reporter,
    ending: _Ending,
    signals: _Signals,
    telling: Telling,
) -> None:
    """Fetch until done, or until the first SIGINT or SIGTERM: then what is in flight has the grace period to finish.

    The second one ends the process at once. What is recorded is recorded, and the run can be resumed.
    """
    loop = asyncio.get_running_loop()
    control = Control()
    fetching = asyncio.ensure_future(execution(listener, control))
    grace = fetcher_settings().grace

    def stop() -> None:
        if text := telling.stopping(listener.progress, grace):
            reporter.message(text)
        control.stop()
        loop.call_later(grace, fetching.cancel)

    async with reporter.showing(listener.progress):
        try:
            with signals.stopping(stop):
                ending.state = await fetching
        except asyncio.CancelledError:
            if signals.heard is None:
                raise
        except (SourceError, NotResumable, PlanLost) as exc:
            ending.error = str(exc)


class _Signals:
    """What SIGINT and SIGTERM do: the first one stops the run, any other ends the process at once.

    Plain handlers, not the loop's: those are gone as soon as the loop is closed, and a run that was stopped is still
    to be shown then. Once a signal has come they stay, up to the last moment of the process.
    """

    def __init__(self, leave: Callable[[int], NoReturn]) -> None:
        self.heard: int | None = None
        self._leave = leave
        self._stop: Callable[[], object] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.heard is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Have the first signal call ``stop`` in the running loop."""
        self._stop = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stop)
        try:
            yield
        finally:
            self._stop = None

    def _hear(self, number: int, frame: object) -> None:
        if self._stop is None or self.heard is not None:
            self._leave(number)
        self.heard = number
        atexit.register(_ignore_signals)
        self._stop()


def _ignore_signals() -> None:
    """Let no signal change the exit code in the last moments, when Python takes its handlers away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, listener: Listener, reporter: Reporter, telling: Telling) -> NoReturn:
    """End the process and those that work for it, without any more ado."""
    for process in listener.progress.processes.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(RuntimeError):  # a signal may come in the middle of printing
        reporter.release()
        reporter.message(telling.stopped(listener.progress) if listener.progress.run else "interrupted")
        reporter.leave()
    os._exit(128 + number)


class Rejections:
    """Prints rejected lines as they come; past the first few only the summary counts them."""

    def __init__(self, reporter: Reporter, *, kept: bool = True) -> None:
        self._reporter = reporter
        self._kept = "; all are kept with the run" if kept else ""
        self._count = 0

    def __call__(self, entry: Entry) -> None:
        """Print one."""
        self._count += 1
        if self._count <= _REJECTED_SHOWN:
            self._reporter.message(f"{entry.where}: rejected: {entry.value!r} {entry.reason}")
        elif self._count == _REJECTED_SHOWN + 1:
            self._reporter.message(f"more lines are rejected{self._kept}")
