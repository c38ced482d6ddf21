"""Worker processes of one command: they share its run through leases, and what they save is shown as one progress.

A worker reads lines from its standard input: ``planned``, nothing will be added to the run any more; ``stop``, finish
what is in flight. When that is closed the command is gone, and the worker ends at once, so that none outlives it. On
its standard output it writes a ``Report`` a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from fetcher.engine.control import Control
from fetcher.progress import Elsewhere, Progress, Tally
from fetcher.sink import Saved
from fetcher.writer import Writer

PLANNED, STOP = b"planned\n", b"stop\n"
_LINE = 16 * 2**20
"""Bytes of a report, at most."""
_VAIN = 3
"""Processes in a row that may end without having saved anything before no other is started in their place."""
_LAST_SAVING = 0.5
"""Seconds after the grace period in which workers may still save what they have fetched."""
_AFTER_KILL = 1.0
"""Seconds for which the end of a process that was killed is waited for."""
_AGAIN = 1.0
"""Seconds before a process is started in the place of one that saved nothing."""


class Report(msgspec.Struct, array_like=True):
    """What a worker has saved since its last report, and what it is doing."""

    ids: list[int]
    tally: Tally
    doing: Elsewhere


_decoder = msgspec.json.Decoder(Report)


class Team:
    """So many worker processes on a run. Use as ``async with``; leaving it early kills them.

    ``saved`` hears of what they recorded, in the writer's thread. The ``control`` that stops the command's own work
    stops theirs. ``grace`` is how many seconds they then have.
    """

    def __init__(
        self,
        run: int,
        size: int,
        *,
        writer: Writer,
        control: Control,
        progress: Progress,
        saved: Saved,
        message: Callable[[str], None],
        grace: float,
    ) -> None:
        self._run = run
        self._size = size
        self._writer = writer
        self._control = control
        self._progress = progress
        self._saved = saved
        self._message = message
        self._grace = grace
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._planned = False
        self._closing = False

    async def __aenter__(self) -> Team:
        self._control.listen(self._controlled)
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(self._size)]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing = True
        if self._tasks and self._control.stopped:
            await asyncio.wait(self._tasks, timeout=_LAST_SAVING)
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_AFTER_KILL)  # they hear that their processes have ended
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self) -> None:
        """Wait until every worker has ended; after a stop no longer than the grace period and a second."""
        if not self._tasks:
            return
        waiting = asyncio.ensure_future(asyncio.wait(self._tasks))
        try:
            while not waiting.done() and not self._control.stopped:
                await asyncio.wait([waiting], timeout=0.1)
            await asyncio.wait([waiting], timeout=self._grace + 1)
        finally:
            waiting.cancel()

    def end_of_plan(self) -> None:
        """Tell the workers that nothing will be added to the run."""
        self._planned = True
        for process in self._processes.values():
            _tell(process, PLANNED)

    def _controlled(self) -> None:
        if self._control.stopped:
            for process in self._processes.values():
                _tell(process, STOP)

    async def _keep(self, number: int) -> None:
        """Keep one worker going: while it does not end by itself, another takes its place."""
        vain = 0
        while True:
            heard = await self._run_one(number)
            process = self._processes.pop(number)
            self._progress.elsewhere.pop(number, None)
            self._progress.processes.pop(number, None)
            if process.returncode == 0 or self._control.stopped or self._closing:
                return
            vain = 0 if heard else vain + 1
            how = _how(process.returncode)
            if vain >= _VAIN:
                self._message(f"worker {number + 2} {how} {_VAIN} times in a row; the run goes on without it")
                return
            self._message(f"worker {number + 2} (process {process.pid}) {how}; another takes its place")
            if vain:
                await asyncio.sleep(_AGAIN)

    async def _run_one(self, number: int) -> bool:
        """Start a worker and listen until it has ended; return whether it saved anything."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fetcher.worker",
            str(self._run),
            str(self._size + 1),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
            process_group=0,  # Ctrl-C is for the command: what becomes of its workers is its to say
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._processes[number] = process
        self._progress.processes[number] = process.pid
        if self._planned:
            _tell(process, PLANNED)
        if self._control.stopped:
            _tell(process, STOP)
        heard = False
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                report = _decoder.decode(line)
            except msgspec.DecodeError:  # what a killed process began to write, or what a user's settings print
                continue
            self._progress.elsewhere[number] = report.doing
            if report.ids:
                heard = True
                await self._writer(self._saved, report.ids, report.tally)
        await process.wait()
        return heard


def _tell(process: asyncio.subprocess.Process, line: bytes) -> None:
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(line)


def _how(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"
