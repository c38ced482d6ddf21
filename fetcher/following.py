"""Following a run of the cluster: what its own process would tell is read from the database, about once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from fetcher.engine.control import Control
from fetcher.execution import background
from fetcher.listener import Listener
from fetcher.models import Run, RunState
from fetcher.sources import SourceError
from fetcher.store import cluster, runs
from fetcher.store.news import NewResults
from fetcher.writer import Writer

LOOK = 1.0
"""Seconds between two looks."""
PATIENCE = 10.0
"""Seconds without a worker after which somebody should be told."""
NOBODY = "nobody has worked on run {run} for {seconds:g} s: is a cluster running, and not busy with other runs?"
_COLUMNS = ("state", "shown_state", "woken_at")
GOES_ON = (RunState.PENDING, RunState.RUNNING)


async def follow_queued(
    planning: Coroutine[Any, Any, RunState],
    listener: Listener,
    control: Control,
    *,
    wait: bool,
    results: bool = False,
    known: int | None = None,
    hint: str = "",
) -> RunState:
    """Have a run planned (``fetcher.queueing``) and show meanwhile how far the cluster is with it.

    With ``wait`` that goes on until the run is over, or the ``control`` is stopped; the state that it is in then is
    returned. ``listener.progress`` is kept up, and with ``results`` ``listener.recorded`` hears of every result once,
    in a thread that may read the database; of a run that is ``known`` before only of what is new. ``hint`` is added to
    what ``listener.message`` is told where nobody works on the run.

    Raises what the planning raises; with ``wait`` a SourceError only when what was accepted is fetched.
    """
    lost: SourceError | None = None
    async with Writer(waiting=listener.message) as reader:
        follower = _Follower(reader, listener, results=results, hint=hint)
        try:
            if known is not None:
                await follower.pass_over(known)
            async with background(follower.keep_looking()):
                state = await planning
        except SourceError as exc:
            if not wait or control.stopped:
                raise
            lost = exc
        finally:
            planning.close()
        if wait:
            state = await follower.until_over(control)
    if lost is not None and not control.stopped:
        raise lost
    return state


class _Follower:
    def __init__(self, reader: Writer, listener: Listener, *, results: bool, hint: str) -> None:
        self._reader = reader
        self._listener = listener
        self._progress = listener.progress
        self._results = results
        self._hint = hint
        self._news: NewResults | None = None

    async def pass_over(self, run: int) -> None:
        """Leave out what is saved before now."""
        if self._results:
            self._news = NewResults(run)
            await self._reader(self._news.pass_over)

    async def keep_looking(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK)
            if self._progress.run:
                await self._reader(self._look)

    async def until_over(self, control: Control) -> RunState:
        """Look until the run is over, or the control stopped, and return the state that it is in."""
        stopped = asyncio.Event()
        control.listen(lambda: stopped.set() if control.stopped else None)
        clock = asyncio.get_running_loop().time
        attended, told = clock(), False
        ends_by = None
        while True:
            state = await self._reader(self._look)
            if state == RunState.CANCELLED and self._progress.workers:  # they save what they have in flight
                ends_by = ends_by or clock() + PATIENCE
            elif state not in GOES_ON:
                return state
            if control.stopped or (ends_by and clock() >= ends_by):
                return state
            if self._progress.workers:
                attended = clock()
            elif not told and clock() - attended >= PATIENCE:
                told = True
                text = NOBODY.format(run=self._progress.run, seconds=PATIENCE)
                self._listener.message(f"{text}{self._hint}")
            waiting = asyncio.ensure_future(stopped.wait())
            await asyncio.wait([waiting], timeout=LOOK)
            waiting.cancel()

    def _look(self) -> RunState:
        """Read how far the run is; the state first, so that of one that is over nothing is missed."""
        run = self._progress.run
        row: Any = Run.objects.filter(pk=run).with_shown_state().values(*_COLUMNS).first()
        if row is None:  # pruned: it was over
            return RunState.COMPLETED
        # Between two workers a run of the cluster goes on; one that somebody took from it may have been left.
        state = RunState(row["state"] if row["woken_at"] is not None else row["shown_state"])
        counts, workers = runs.counts(run), cluster.workers_on(run)
        if self._results:
            self._news = self._news or NewResults(run)
            for ids in self._news.look():
                self._listener.recorded(ids)
        self._progress.looked(counts, workers)
        return state
