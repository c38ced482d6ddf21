"""What a worker of the cluster does when it is woken: a slice of one run's work.

It leases lanes, works for about half a minute and lets go, so that those who came later get lanes too and the queue's
own bound on a task is never near. Whoever comes next is woken as soon as nothing new is sent here, not when the last
answer is in: between two slices of a run there is no gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from dataclasses import dataclass

import httpx
from django.db import DatabaseError, InterfaceError

from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe, is_outage
from fetcher.disk import DiskWatch
from fetcher.dispatch import Dispatcher, DispatchError
from fetcher.engine.config import ConfigError, check_environment
from fetcher.engine.control import Control
from fetcher.engine.defects import report_defect
from fetcher.engine.runner import Meter
from fetcher.execution import Execution, background
from fetcher.feed import LaneFeed
from fetcher.models import Run
from fetcher.progress import Tally
from fetcher.secrets import UnsealError
from fetcher.store import cluster, leases, runs
from fetcher.writer import Writer

log = logging.getLogger(__name__)

SLICE = 30.0
"""Seconds of sending."""
SHORTEST = 5.0
"""Seconds after which a slice ends where a run without a worker waits."""
IDLE = 3.0
"""Seconds without work after which a slice ends, while others have what is left of the run."""
LOOK = 2.0
"""Seconds between two looks at other runs."""
RELEASE = 0.1
"""Seconds between two looks which lanes can be given up, once nothing new is sent."""
RESERVE = 60.0
"""Seconds that the queue's bound on a task is above slice and longest attempt: for saving, and for a database away."""
WATCH = leases.Watch()
"""This process's: what it has seen of other workers outlasts a slice, which is hardly longer than a watch must be."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What a slice was: the run, how many results it saved, and whether the run is over since."""

    run: int
    saved: int
    over: bool


async def work_slice(
    hint: int,
    dispatcher: Dispatcher,
    *,
    seconds: float = SLICE,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Slice | None:
    """Work on the run ``hint``, or on another of the cluster's that needs it more; None where none needs a worker.

    Raises DatabaseError where nothing more can be saved, DiskNearlyFull; the run is woken again by the sweep.
    """
    async with Writer(patience=min(fetcher_settings().database_patience, RESERVE / 2), waiting=log.warning) as writer:
        if await writer.once(dispatcher.is_ending):
            await writer.once(dispatcher.wake, hint)  # somebody else
            return None
        begun = await writer.once(cluster.begin, hint, fetcher_settings().run_workers)
        if begun is None:
            return None
        return await _Slice(*begun, writer, dispatcher, seconds, transport).work()


class _Slice:
    def __init__(
        self,
        run: int,
        worker: int,
        writer: Writer,
        dispatcher: Dispatcher,
        seconds: float,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._run = run
        self._worker = worker
        self._writer = writer
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._transport = transport
        self._control = Control()
        self._began = time.monotonic()
        self._saved = 0
        self._woken = False

    async def work(self) -> Slice:
        try:
            await self._fetch()
        except (ConfigError, UnsealError) as exc:  # no worker of the cluster could
            log.error(  # noqa: TRY400  (what is to be mended is no defect of ours)
                "run %s has failed: %s",
                self._run,
                exc,
            )
            await self._writer(cluster.fail, self._run, self._worker, str(exc))
            return Slice(self._run, self._saved, True)
        except Exception as exc:
            if not await self._note_failure(exc):
                raise
            return Slice(self._run, self._saved, True)
        except BaseException:
            self._writer.hurry()
            with contextlib.suppress(DatabaseError, InterfaceError):  # what came first is what is told
                await asyncio.shield(self._writer(leases.let_go, self._worker))
            raise
        waits = await self._writer(cluster.end, self._run, self._worker, woken=self._woken)
        if waits and (self._saved or time.monotonic() - self._began >= IDLE):
            await self._wake()  # otherwise the next one could do nothing either: the sweep has it tried in a while
        return Slice(self._run, self._saved, await self._writer(cluster.is_over, self._run))

    async def _note_failure(self, error: Exception) -> bool:
        """Note that this slice failed; return whether the run is over for that."""
        outage = is_outage(error)
        reason = describe(error) if outage else report_defect(error, "working on a slice")
        self._writer.hurry()
        try:
            ended = await asyncio.shield(
                self._writer(cluster.note_failed_slice, self._run, self._worker, reason, outage=outage)
            )
        except (DatabaseError, InterfaceError):  # what came first is what is told
            return False
        if ended:
            log.error("run %s has failed: %s", self._run, reason)
        return ended

    async def _fetch(self) -> None:
        row = await self._writer(Run.objects.get, pk=self._run)
        config, options = runs.load_config(row), runs.load_options(row)
        check_environment(config.headers)
        disk = DiskWatch.of_run(keeps_bodies=options.keep_body)
        disk.check()
        longest = self._dispatcher.longest_attempt
        execution = Execution(
            self._run,
            self._worker,
            dataclasses.replace(config, deadline=min(config.deadline, longest)),
            options,
            writer=self._writer,
            control=self._control,
            disk=disk,
            meter=Meter(),
            saved=self._count,
            transport=self._transport,
            patience=IDLE,
            watch=WATCH,
        )
        try:
            # An attempt that has just begun may take its time; nothing here may come near the queue's own bound.
            async with (
                asyncio.timeout(self._seconds + longest + RESERVE / 4) as limit,
                background(self._watch(execution)),
            ):
                await execution.work(self._until_planned)
        except TimeoutError:
            if not limit.expired():
                raise
            await execution.release_idle()

    async def _until_planned(self, feed: LaneFeed) -> None:
        """Tell the feed of new shards while somebody still reads the run's source."""
        while await self._writer(cluster.is_read, self._run):
            feed.planned()
            await asyncio.sleep(1)
        feed.end_of_plan()

    async def _watch(self, execution: Execution) -> None:
        """End the slice when its time is over, when another run has nobody, or when the run is cancelled."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while not self._control.stopped:
            await asyncio.sleep(min(LOOK, max(0.0, began + self._seconds - clock())))
            elapsed = clock() - began
            if elapsed >= self._seconds or await self._is_to_end(elapsed):
                break
        if self._control.stopped:
            return
        self._control.stop()
        while True:  # each lane as soon as nothing of it is under way, not when the last answer is in
            await execution.release_idle()
            if not self._woken and await self._writer(cluster.has_free_lanes, self._run):
                await self._wake()
            await asyncio.sleep(RELEASE)

    async def _is_to_end(self, elapsed: float) -> bool:
        """Whether this cluster is to stop, or another run has nobody and this one had its least.

        Has others woken for what was lost meanwhile.
        """
        try:
            if await self._writer.once(self._dispatcher.is_ending):
                return True
            if elapsed >= SHORTEST and await self._writer(cluster.starving, self._run):
                return True
            await self._call_for_help()
            await self._writer.once(wake_lost, self._dispatcher)
        except (DispatchError, DatabaseError, InterfaceError) as exc:  # the slice must end in time all the same
            log.warning("run %s: other runs were not looked after: %s", self._run, exc)
        return False

    async def _call_for_help(self) -> None:
        """Wake another worker where there is work for one.

        Whose workers are all busy takes a message or two all the same and keeps them, while others have nothing to do.
        """
        if await self._writer(cluster.lacks_workers, self._run, fetcher_settings().run_workers) and (
            await self._writer.once(self._dispatcher.is_idle)
        ):
            await self._writer.once(self._dispatcher.wake, self._run)

    async def _wake(self) -> None:
        self._woken = True
        await self._writer(cluster.hand_over, self._run)
        try:
            await self._writer.once(self._dispatcher.wake, self._run)
        except (DispatchError, DatabaseError, InterfaceError) as exc:  # the queue may be in a database as well
            log.warning("run %s: no worker was woken, the sweep will: %s", self._run, exc)

    def _count(self, ids: list[int], tally: Tally) -> None:
        self._saved += len(ids)


def wake_lost(dispatcher: Dispatcher) -> list[int]:
    """Have workers woken for runs that nobody works on and that nobody was told of for a while; return these.

    While messages wait none is added: each is for the run that needs a worker most, whichever it names, and on a
    cluster that has too much to do they would only pile up. Raises DispatchError.
    """
    found = cluster.sweep()
    for run in found:
        cluster.hand_over(run)
    if found and dispatcher.is_idle():
        for run in found:
            dispatcher.wake(run)
    return found
