"""One run from a command's point of view: progress, output, signals and exit codes around the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError

from fetcher import payloads
from fetcher.cli.progress import Reporter
from fetcher.cli.summary import print_summary
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.models import Result, Run, RunState
from fetcher.progress import Progress
from fetcher.service import Listener, fetch_list
from fetcher.sources import Entry, SourceError

OUTPUTS = ("summary", "ndjson", "json")
SOME_FAILED = 3
_REJECTED_SHOWN = 20


def run_list(
    entries: Iterable[Entry],
    config: FetchConfig,
    *,
    stdout: OutputWrapper,
    stderr: OutputWrapper,
    label: str = "",
    source: str = "",
    output: str = "summary",
    progress_style: str = "auto",
    exit_zero: bool = False,
) -> Progress:
    """Fetch a list with everything that a command shows of it.

    Returns only where the exit code is 0; raises SystemExit (3, 130, 143) and CommandError (1) otherwise.
    """
    reporter = Reporter(progress_style, _stream(stderr))
    printer = _Printer(_stream(stdout)) if output == "ndjson" else None
    listener = Listener(rejected=_Rejections(reporter))
    if printer:
        listener.recorded = printer.print_results
    progress = listener.progress
    stopped: list[int] = []
    error = None
    try:
        state = asyncio.run(_run(entries, config, label, source, listener, reporter, stopped))
    except (KeyboardInterrupt, asyncio.CancelledError):
        state = RunState.INTERRUPTED
        stopped = stopped or [signal.SIGINT]
    except SourceError as exc:
        error = str(exc)
    except ConfigError as exc:
        raise CommandError(str(exc)) from None
    except DatabaseError as exc:
        where = f"run {progress.run}: " if progress.run else ""
        raise CommandError(f"{where}the database cannot be used: {str(exc).strip().splitlines()[0]}") from exc
    with _closed_pipe_is_fine():
        if output == "json":
            _print_document(_stream(stdout), progress.run)
        elif output == "summary" and progress.run:
            print_summary(_stream(stdout), progress)
        _stream(stdout).flush()
    if error is not None:
        raise CommandError(error)
    if stopped:
        done = f"{progress.done} of {progress.accepted} targets are saved"
        reporter.message(f"interrupted: {done}")
        raise SystemExit(128 + stopped[0])
    if state != RunState.COMPLETED:
        raise CommandError(f"run {progress.run} is {state}, not completed")
    if not progress.accepted and not progress.rejected:
        reporter.message(f"there is no URL in {source}")
    if (progress.failed or progress.rejected) and not exit_zero:
        raise SystemExit(SOME_FAILED)
    return progress


async def _run(
    entries: Iterable[Entry],
    config: FetchConfig,
    label: str,
    source: str,
    listener: Listener,
    reporter: Reporter,
    stopped: list[int],
) -> RunState:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        stopped.append(number)
        task.cancel()

    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not on Windows, not outside the main thread
        loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
    async with reporter.showing(listener.progress):
        return await fetch_list(entries, config, label=label, source=source, listener=listener)


class _Rejections:
    """Prints rejected lines as they come; past the first few only the summary counts them."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._count = 0

    def __call__(self, entry: Entry) -> None:
        self._count += 1
        if self._count <= _REJECTED_SHOWN:
            self._reporter.message(f"{entry.where}: rejected: {entry.value!r} {entry.reason}")
        elif self._count == _REJECTED_SHOWN + 1:
            self._reporter.message("more lines are rejected; all are kept with the run")


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
            _discard_stdout()


def _print_document(stream: TextIO, run: int) -> None:
    """Print ``{"run": {...}, "items": [...]}``, reading a page of results at a time."""
    document = payloads.encode(payloads.run_items(Run.objects.filter(pk=run))[0]).decode()
    stream.write(f'{{"run": {document}, "items": [')
    separator = "\n"
    for ids in _pages(run):
        for item in payloads.result_items(ids):
            stream.write(separator + payloads.encode(item).decode())
            separator = ",\n"
    stream.write("\n]}\n")


def _pages(run: int) -> Iterator[list[int]]:
    after = 0
    while ids := Result.objects.page(run, after=after, limit=500):
        yield ids
        after = ids[-1]


def _stream(wrapper: OutputWrapper) -> Any:
    """Return the stream beneath Django's wrapper, which ends every write with a line break."""
    return getattr(wrapper, "_out", wrapper)


@contextlib.contextmanager
def _closed_pipe_is_fine() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _discard_stdout()


def _discard_stdout() -> None:
    """Keep the interpreter from failing at exit over what it could not write."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
