"""``python -m fetcher.worker RUN SIZE``: one of the SIZE processes of a command, as ``fetcher.team`` starts it.

It fetches what it can lease of the run, with its part of the run's concurrency, until nothing is left or it is told to
stop. SIGTERM stops it as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import threading

import django
import msgspec

if __name__ == "__main__":
    django.setup()  # the models, imported below, need it

from django.db import DatabaseError, InterfaceError

from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe
from fetcher.disk import DiskWatch
from fetcher.engine.config import ConfigError
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter
from fetcher.execution import Execution, background
from fetcher.feed import LaneFeed
from fetcher.models import Run
from fetcher.progress import Elsewhere, Tally
from fetcher.secrets import UnsealError
from fetcher.store import leases, runs
from fetcher.team import PLANNED, STOP, Report
from fetcher.writer import Writer

_SAVING = 0.3
"""Seconds of the grace period that are left for saving."""
_PIPE = 4096
"""Bytes that are read at once."""
_REPORT_EVERY = 1.0
"""Seconds between reports of a worker that saves nothing."""


class Worker:
    """One worker's life: it registers, works, reports what it saves, and lets go."""

    def __init__(self, run: int, size: int) -> None:
        self._run = run
        self._size = size
        self._control = Control()
        self._meter = Meter()
        self._planned = asyncio.Event()
        self._work: asyncio.Future[None] | None = None
        self._code = 0
        self._over = False

    async def live(self) -> int:
        """Work until the run is done or it is stopped; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        async with Writer() as writer:
            row = await writer(Run.objects.get, pk=self._run)
            config, options = runs.load_config(row), runs.load_options(row)
            worker = await writer(leases.register_worker, self._run)
            try:
                execution = Execution(
                    self._run,
                    worker,
                    dataclasses.replace(config, concurrency=-(-config.concurrency // self._size)),
                    options,
                    writer=writer,
                    control=self._control,
                    disk=DiskWatch.of_run(keeps_bodies=options.keep_body),
                    meter=self._meter,
                    saved=self._report,
                    message=lambda text: None,  # the command has said it of itself
                )
                self._work = asyncio.ensure_future(execution.work(self._wait_for_plan))
                threading.Thread(target=self._listen, args=[asyncio.get_running_loop()], daemon=True).start()
                async with background(self._keep_reporting(writer)):
                    with contextlib.suppress(asyncio.CancelledError):
                        await self._work
                self._over = True
            except BaseException:
                self._over = True
                writer.hurry()
                with contextlib.suppress(DatabaseError, InterfaceError):  # what came first is what is told
                    await asyncio.shield(writer(leases.let_go, worker))
                raise
            await writer(leases.let_go, worker)
        return self._code

    async def _wait_for_plan(self, feed: LaneFeed) -> None:
        await self._planned.wait()
        feed.end_of_plan()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear what the command says; when it is gone, end. In a thread, so that a busy loop delays neither.

        A worker that went on for a moment could take what the command had in flight, and end with it all the same.
        """
        rest = b""
        while data := os.read(sys.stdin.fileno(), _PIPE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._obey, line + b"\n")
        if not self._over:
            os._exit(1)  # nothing that is recorded is lost, and nobody has to wait for this process to be gone

    def _obey(self, line: bytes) -> None:
        if line == PLANNED:
            self._planned.set()
        elif line == STOP:
            self._stop()

    def _terminate(self) -> None:
        self._code = 128 + signal.SIGTERM
        self._stop()

    def _stop(self) -> None:
        self._control.stop()
        # A little before the command gives up waiting, for what was fetched is still to be saved.
        asyncio.get_running_loop().call_later(max(0.0, fetcher_settings().grace - _SAVING), self._cancel)

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()

    async def _keep_reporting(self, writer: Writer) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            await writer(self._report, [], Tally())

    def _report(self, ids: list[int], tally: Tally) -> None:
        """Write a report; all are written in the writer thread, so that no two are mixed up."""
        line = msgspec.json.encode(Report(ids, tally, Elsewhere(self._meter.in_flight, self._meter.retries)))
        with contextlib.suppress(BrokenPipeError):  # the command is gone, which ends this process soon
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()


async def _live(run: int, size: int) -> int:
    return await Worker(run, size).live()


def main(arguments: list[str]) -> int:
    """Live a worker's life; return the exit code."""
    run, size = map(int, arguments)
    try:
        return asyncio.run(_live(run, size))
    except (ConfigError, UnsealError) as exc:
        sys.stderr.write(f"a worker of run {run} ends: {exc}\n")
        return 1
    except (DatabaseError, InterfaceError, OSError) as exc:
        sys.stderr.write(f"a worker of run {run} ends: {describe(exc)}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
