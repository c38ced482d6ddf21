"""One run from a command's point of view: progress, output, signals and exit codes around the service."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, InterfaceError, connection

from fetcher import payloads
from fetcher.cli.progress import Reporter
from fetcher.cli.streams import closed_pipe_is_fine, discard_stdout, raw_stream, use_utf8
from fetcher.cli.summary import figures, print_summary
from fetcher.database_errors import describe
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.models import Result, Run, RunState
from fetcher.options import RunOptions
from fetcher.progress import Progress
from fetcher.secrets import UnsealError
from fetcher.service import Listener, fetch_list
from fetcher.sources import Entry, SourceError

OUTPUTS = ("summary", "ndjson", "json")
SOME_FAILED = 3
_REJECTED_SHOWN = 20


def run_list(
    entries: Iterable[Entry],
    config: FetchConfig,
    options: RunOptions | None = None,
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
    reporter = Reporter(progress_style, raw_stream(stderr))
    out = raw_stream(stdout)
    use_utf8(out)
    listener = Listener(rejected=Rejections(reporter), message=reporter.message)
    if output == "ndjson":
        listener.recorded = _Printer(out).print_results
    progress = listener.progress
    ending = _Ending()
    with clear_errors(progress):
        fetching = fetch_list(entries, config, options, label=label, source=source, listener=listener)
        asyncio.run(_run(fetching, progress, reporter, ending))
        connection.close()  # this thread's, idle until now: a server that was restarted has forgotten it
    with closed_pipe_is_fine():
        if output == "json":
            _print_document(out, progress)
        elif output == "summary":
            print_summary(out, progress)
        out.flush()
    if ending.error is not None:
        raise CommandError(ending.error)
    if ending.signal is not None and ending.state is None:
        reporter.message(f"interrupted: {progress.done} of {progress.accepted} targets are saved")
        raise SystemExit(128 + ending.signal)
    if ending.state != RunState.COMPLETED:
        raise CommandError(f"run {progress.run} is {ending.state}, not completed")
    if not progress.accepted and not progress.rejected:
        reporter.message(f"there is no URL in {source}")
    if (progress.failed or progress.rejected) and not exit_zero:
        raise SystemExit(SOME_FAILED)
    return progress


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
        raise CommandError(f"{_run_of(progress)}{describe(exc)}") from exc
    except KeyboardInterrupt:  # the second one, which stops at once
        raise SystemExit(128 + signal.SIGINT) from None


def _run_of(progress: Progress | None) -> str:
    return f"run {progress.run}: " if progress and progress.run else ""


async def _run(
    execution: Coroutine[Any, Any, RunState], progress: Progress, reporter: Reporter, ending: _Ending
) -> None:
    """Fetch until done, or until the first SIGINT or SIGTERM: then what was fetched is saved, and that is all."""
    loop = asyncio.get_running_loop()
    fetching = asyncio.ensure_future(execution)

    def stop(number: int) -> None:
        ending.signal = number
        loop.remove_signal_handler(number)  # the second one stops at once
        fetching.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            loop.add_signal_handler(number, stop, number)
    async with reporter.showing(progress):
        try:
            ending.state = await fetching
        except asyncio.CancelledError:
            if ending.signal is None:
                raise
        except SourceError as exc:
            ending.error = str(exc)


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


def _pages(run: int) -> Iterator[list[int]]:
    after = 0
    while ids := Result.objects.page(run, after=after, limit=500):
        yield ids
        after = ids[-1]
