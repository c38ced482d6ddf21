"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TextIO

from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from fetcher.cli.console import console_for
from fetcher.cli.text import count, duration, printable
from fetcher.progress import Progress

STYLES = ("auto", "bar", "plain", "none")
LINE_EVERY = 5.0
"""Seconds between two lines of plain progress."""
_REFRESH = 0.1
_HELD = 100
"""Messages that a quiet command keeps for the case that it fails."""


class Reporter:
    """Shows one run's progress in a style, and messages without tearing the bar.

    A ``quiet`` one shows no progress, and holds messages back until ``release``.
    """

    def __init__(self, style: str, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._held: deque[str] | None = deque(maxlen=_HELD) if quiet else None
        self._console = console_for(stream, soft_wrap=True)
        if style == "auto":
            style = "bar" if self._console.is_terminal else "plain"
        self._style = "none" if quiet else style

    def message(self, text: str) -> None:
        """Print a line now; above the bar, where there is one. Hold it back where this is quiet."""
        if self._held is not None:
            self._held.append(text)
            return
        if self._console.is_terminal:
            self._console.print(Text(printable(text)))
            return
        self._stream.write(f"{printable(text)}\n")
        self._stream.flush()

    def release(self) -> None:
        """Print what was held back, because something is not well; from now on messages are printed at once."""
        held, self._held = self._held or (), None
        for text in held:
            self.message(text)

    @contextlib.contextmanager
    def releasing(self) -> Iterator[None]:
        """Release the messages where the block fails, or ends the command."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def leave(self) -> None:
        """Leave the terminal as it was found, because the process is about to end without any more ado."""
        self._console.show_cursor()

    @contextlib.asynccontextmanager
    async def showing(self, progress: Progress) -> AsyncIterator[None]:
        """Show progress while the block runs."""
        show = {"bar": self._bar, "plain": self._lines}.get(self._style)
        if show is None:
            yield
            return
        task = asyncio.create_task(show(progress))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _lines(self, progress: Progress) -> None:
        while True:
            await asyncio.sleep(LINE_EVERY)
            if progress.run:
                self.message(line(progress))

    async def _bar(self, progress: Progress) -> None:
        bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            auto_refresh=False,
            expand=True,
            transient=True,
        )
        task = bar.add_task("", total=None, figures="")
        with Live(bar, console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                _update(bar, task, progress)
                live.refresh()
                await asyncio.sleep(_REFRESH)


def _update(bar: RichProgress, task: TaskID, progress: Progress) -> None:
    bar.update(
        task,
        description=f"Run {progress.run}",
        total=progress.accepted if progress.planned else None,
        completed=progress.done,
        figures=figures(progress),
    )


def line(progress: Progress) -> str:
    """Return one line of plain progress."""
    return f"run {progress.run}: {figures(progress)}"


def figures(progress: Progress) -> str:
    """Return done, rate, in flight, failed and the time that is left, as far as they are known."""
    total = count(progress.accepted) + ("" if progress.planned else "+")
    doing = f"{progress.in_flight} in flight" if progress.workers is None else count(progress.workers, "worker")
    parts = [f"{count(progress.done)}/{total}", f"{progress.rate:,.0f}/s", doing]
    if progress.failed:
        parts.append(f"{count(progress.failed)} failed")
    if progress.rejected:
        parts.append(f"{count(progress.rejected)} rejected")
    if progress.eta is not None:
        parts.append(f"{duration(progress.eta)} left" if progress.eta >= 1 else "nearly done")
    return ", ".join(parts)
