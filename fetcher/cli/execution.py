"""One run from a command's point of view: progress, output, signals and exit codes around the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, InterfaceError, connection

from fetcher import payloads
from fetcher.cli.progress import Reporter
from fetcher.cli.streams import closed_pipe_is_fine, discard_stdout, raw_stream, use_utf8
from fetcher.cli.summary import figures, print_summary
from fetcher.cli.text import count, program
from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe
from fetcher.engine.config import ConfigError
from fetcher.engine.control import Control
from fetcher.listener import Listener, Resumed
from fetcher.models import Result, Run, RunState
from fetcher.progress import Progress
from fetcher.secrets import UnsealError
from fetcher.sources import Entry, SourceError
from fetcher.store.lanes import PlanLost
from fetcher.store.runs import NotResumable

OUTPUTS = ("summary", "ndjson", "json")
SOME_FAILED = 3
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
) -> Progress:
    """Fetch with everything that a command shows of it; ``source`` is what to call the input where it is empty.

    Returns only where the exit code is 0; raises SystemExit (3, 130, 143) and CommandError (1) otherwise.
    """
    reporter = Reporter(progress_style, raw_stream(stderr))
    out = raw_stream(stdout)
    use_utf8(out)
    listener = Listener(
        rejected=Rejections(reporter),
        resumed=lambda found: reporter.message(_resuming(found)),
        message=reporter.message,
    )
    if output == "ndjson":
        listener.recorded = _Printer(out).print_results
    progress = listener.progress
    ending = _Ending()
    with clear_errors(progress):
        asyncio.run(_run(execution, listener, reporter, ending))
        connection.close()  # this thread's, idle until now: a server that was restarted has forgotten it
    with clear_errors(progress), closed_pipe_is_fine(), _interruptible(ending, listener, reporter):
        if output == "json" and progress.run:
            _print_document(out, progress)
        elif output == "summary" and progress.run:
            print_summary(out, progress)
        out.flush()
    if ending.error is not None:
        raise CommandError(ending.error)
    if ending.signal is not None and ending.state != RunState.COMPLETED:
        reporter.message(_interrupted(progress))
        raise SystemExit(128 + ending.signal)
    if ending.state != RunState.COMPLETED:
        raise CommandError(f"run {progress.run} is {ending.state}, not completed. {_how_to_resume(progress.run)}")
    if source and not progress.accepted and not progress.rejected:
        reporter.message(f"there is no URL in {source}")
    if (progress.failed or progress.rejected) and not exit_zero:
        raise SystemExit(SOME_FAILED)
    return progress


def _resuming(found: Resumed) -> str:
    text = f"resuming run {found.run}: {count(found.done)} of {count(found.accepted, 'target')} have a result"
    if found.lost:
        return f"{text}; its input ended at {found.read_to}: {found.lost}"
    return text if found.planned else f"{text}; reading on after {found.read_to}"


def _interrupted(progress: Progress) -> str:
    more = "" if progress.planned else "; the input was not read to its end"
    return (
        f"interrupted: {count(progress.done)} of {count(progress.accepted, 'target')} are saved{more}. "
        f"{_how_to_resume(progress.run)}"
    )


def _how_to_resume(run: int) -> str:
    return f"Go on with: {program()} fetch_urls --resume {run}"


@dataclass(slots=True)
class _Ending:
    """How a run ended: its state, the signal that stopped it, or what is wrong with its source."""

    state: str | None = None
    signal: int | None = None
    error: str | None = None


@contextlib.contextmanager
def clear_errors(progress: Progress | None = None) -> Iterator[None]:
    """Turn what a user or an operator can mend into one line."""
    try:
        yield
    except (ConfigError, UnsealError) as exc:
        raise CommandError(str(exc)) from None
    except (DatabaseError, InterfaceError, OSError) as exc:  # OSError: a full disk, the file storage of large bodies
        raise CommandError(f"{_run_of(progress)}{describe(exc)}{_resumable(progress)}") from exc


def _resumable(progress: Progress | None) -> str:
    return f". {_how_to_resume(progress.run)}" if progress and progress.run else ""


def _run_of(progress: Progress | None) -> str:
    return f"run {progress.run}: " if progress and progress.run else ""


async def _run(execution: Execution, listener: Listener, reporter: Reporter, ending: _Ending) -> None:
    """Fetch until done, or until the first SIGINT or SIGTERM: then what is in flight has the grace period to finish.

    The second one ends the process at once. What is recorded is recorded, and the run can be resumed.
    """
    loop = asyncio.get_running_loop()
    control = Control()
    fetching = asyncio.ensure_future(execution(listener, control))
    grace = fetcher_settings().grace

    def stop(number: int) -> None:
        if ending.signal is not None:
            _leave(number, listener, reporter)
        ending.signal = number
        in_flight = listener.progress.in_flight
        if in_flight:
            reporter.message(
                f"stopping: {count(in_flight, 'request')} in flight may take up to {grace:g} s; again to stop at once"
            )
        control.stop()
        loop.call_later(grace, fetching.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            loop.add_signal_handler(number, stop, number)
    async with reporter.showing(listener.progress):
        try:
            ending.state = await fetching
        except asyncio.CancelledError:
            if ending.signal is None:
                raise
        except (SourceError, NotResumable, PlanLost) as exc:
            ending.error = str(exc)


@contextlib.contextmanager
def _interruptible(ending: _Ending, listener: Listener, reporter: Reporter) -> Iterator[None]:
    """Have a signal end the process at once while a run that is over, or was stopped, is shown."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not the main thread
            before[number] = signal.signal(number, lambda number, _: _leave(number, listener, reporter))
    try:
        yield
    finally:
        if ending.signal is None:  # otherwise the process is about to end, and may be told to hurry
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave(number: int, listener: Listener, reporter: Reporter) -> NoReturn:
    """End the process and those that work for it, without any more ado."""
    for process in listener.progress.processes.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(RuntimeError):  # a signal may come in the middle of printing
        reporter.message(_interrupted(listener.progress) if listener.progress.run else "interrupted")
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


class _Printer:
    """Prints a JSON line for each result. When nobody reads any more, the run goes on in silence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def print_results(self, ids: list[int]) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write("".join(payloads.encode_line(item).decode() for item in payloads.result_items(ids)))
            self._stream.flush()
        except BrokenPipeError:
            self._stream = None
            discard_stdout()


def _print_document(stream: TextIO, progress: Progress) -> None:
    """Print ``{"run": {...}, "summary": {...}, "items": [...]}``, reading a page of results at a time."""
    run = progress.run
    document = payloads.encode(payloads.run_items(Run.objects.filter(pk=run))[0]).decode()
    stream.write(f'{{"run": {document}, "summary": {payloads.encode(figures(progress)).decode()}, "items": [')
    separator = "\n"
    for ids in _pages(run):
        for item in payloads.result_items(ids):
            stream.write(separator + payloads.encode(item).decode())
            separator = ",\n"
    stream.write("\n]}\n")


def print_no_run(stdout: OutputWrapper, output: str) -> None:
    """Print what a program reads where there was nothing to make a run of: with ``json`` ``{"run": null, …}``."""
    if output == "json":
        with closed_pipe_is_fine():
            out = raw_stream(stdout)
            out.write(payloads.encode({"run": None, "summary": figures(Progress()), "items": []}).decode() + "\n")
            out.flush()


def _pages(run: int) -> Iterator[list[int]]:
    after = 0
    while ids := Result.objects.page(run, after=after, limit=500):
        yield ids
        after = ids[-1]
