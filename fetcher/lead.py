"""The process that answers for a run, from its beginning to its end."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable

import httpx
from django.db import DatabaseError, InterfaceError, transaction

from fetcher.conf import connection_options, fetcher_settings
from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.control import Control
from fetcher.engine.defects import report_defect
from fetcher.engine.transport import choose_transport
from fetcher.estimate import Limits, RemainingWork
from fetcher.execution import Execution
from fetcher.feed import LaneFeed
from fetcher.listener import Listener, Resumed
from fetcher.models import Run, RunState
from fetcher.options import RunOptions
from fetcher.planning import plan_entries, plan_failures
from fetcher.progress import Tally
from fetcher.sources import Entry, Inputs, SourceError, with_defaults
from fetcher.store import leases, runs
from fetcher.store.plan import Planner
from fetcher.store.retry import RetryPlanner, is_retry
from fetcher.team import Team
from fetcher.writer import Writer

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds for which a run that is resumed is waited for, where processes are still working on it."""


class Lead:
    """The process that answers for a run: it begins it, reads its source, has others help, and ends it."""

    def __init__(
        self,
        writer: Writer,
        disk: DiskWatch,
        listener: Listener,
        transport: httpx.AsyncBaseTransport | None,
        control: Control,
        workers: int,
    ) -> None:
        self._writer = writer
        self._disk = disk
        self._listener = listener
        self._progress = listener.progress
        self._transport = transport
        self._control = control
        self._workers = workers
        self._run = 0
        self._worker = 0
        self._config = FetchConfig()
        self._options = RunOptions()
        self._entries: Iterable[Entry] | None = None
        self._failures = False
        self._lost: SourceError | None = None

    async def run(self, begin: Callable[[], Awaitable[None]]) -> RunState:
        """Begin, work and end. Raises what ``begin`` and the work raise."""
        try:
            await begin()
            self._progress.run = self._run
            self._listener.started(self._run)
            await self._work()
        except BaseException:
            self._writer.hurry()
            try:
                await asyncio.shield(self._writer(self._end))
            except (DatabaseError, InterfaceError) as exc:  # what came first is what is told
                log.info("run %s: its end was not saved: %s", self._run, exc)
            raise
        state = await asyncio.shield(self._writer(self._end))
        if self._lost is not None and not self._control.stopped:
            raise self._lost
        return state

    async def begin(
        self,
        create: Callable[[], int],
        config: FetchConfig,
        options: RunOptions,
        entries: Iterable[Entry] | None = None,
        *,
        prepared: bool = False,
    ) -> None:
        """Begin a new run; without entries it is one over another run's failures, or ``prepared``: planned already."""
        self._config, self._options, self._entries = config, options, entries
        self._failures = entries is None and not prepared
        self._progress.work = RemainingWork(Limits.of(config))
        # Once: whoever starts a run is told at once that the database is away.
        await self._writer.once(self._begin, create)

    async def take_up(self, run: int) -> None:
        """Go on with a run that was interrupted. One whose processes are just ending is waited for."""
        clock = asyncio.get_running_loop().time
        patient_until = clock() + PATIENCE
        while True:
            try:
                found = await self._writer.once(self._take_up, run)
            except runs.RunBusy:
                if clock() >= patient_until:
                    raise
                await asyncio.sleep(0.2)
            else:
                break
        self._listener.resumed(found)

    def _tell_transport(self) -> None:
        """Note what requests go through; a person is told where it is not the fast one."""
        if self._transport is not None:
            return
        options = connection_options()
        chosen = choose_transport(options)
        self._progress.through = chosen.shown
        if chosen.is_fallback:
            self._listener.message(f"fetching through {chosen.shown}, several times slower: {chosen.reason}")

    async def _work(self) -> None:
        self._tell_transport()
        share = dataclasses.replace(self._config, concurrency=-(-self._config.concurrency // self._workers))
        execution = Execution(
            self._run,
            self._worker,
            share,
            self._options,
            writer=self._writer,
            control=self._control,
            disk=self._disk,
            meter=self._progress.meter,
            saved=self._saved,
            transport=self._transport,
            message=self._listener.message,
        )
        team = Team(
            self._run,
            self._workers - 1,
            writer=self._writer,
            control=self._control,
            progress=self._progress,
            saved=self._saved,
            message=self._listener.message,
            grace=fetcher_settings().grace,
        )
        async with team:
            try:
                await execution.work(lambda feed: self._plan(feed, team))
            except Exception as exc:
                if not isinstance(exc, SourceError):  # that one comes when all that was accepted is fetched
                    self._control.stop()
                await team.join()
                raise
            await team.join()

    async def _plan(self, feed: LaneFeed, team: Team) -> None:
        try:
            await self._plan_all(feed.planned)
        finally:
            feed.end_of_plan()
            team.end_of_plan()

    async def _plan_all(self, planned: Callable[[], None]) -> None:
        if self._failures:
            planner = await self._writer(RetryPlanner, self._run, self._worker, split=self._options.split_hosts)
            await plan_failures(planner, planned, writer=self._writer, progress=self._progress)
        elif self._entries is not None:
            await self._plan_entries(self._entries, planned)
        else:
            self._progress.planned = self._lost is None

    async def _plan_entries(self, entries: Iterable[Entry], planned: Callable[[], None]) -> None:
        planner = Planner(
            self._run,
            self._worker,
            config=self._config,
            split=self._options.split_hosts,
            offset=entries.offset if isinstance(entries, Inputs) else lambda read: {},
        )
        await self._writer(planner.load)
        if isinstance(entries, Inputs):
            entries.listen(self._listener.message)
        await plan_entries(
            with_defaults(iter(entries), method=self._options.method, data=self._options.data),
            planner,
            planned,
            writer=self._writer,
            disk=self._disk,
            progress=self._progress,
            rejected=self._listener.rejected,
        )

    # In the writer thread, one after the other: however early a cancellation comes, the end finds what was begun.

    def _begin(self, create: Callable[[], int]) -> None:
        with transaction.atomic():  # a run without a worker would look like one that waits for its turn
            run = create()
            worker = self._register(run)
            self._start(run, worker)
        self._run, self._worker = run, worker
        if self._entries is None and not self._failures:
            self._progress.take_up(runs.counts(run), duplicates=0, rejected=0)

    def _take_up(self, run: int) -> Resumed:
        row = Run.objects.get(pk=run)
        self._config, self._options = runs.load_config(row), runs.load_options(row)
        self._check(self._config)
        with transaction.atomic():
            worker = self._register(run)
            self._claim(run, worker)
            self._start(run, worker)
        self._run, self._worker = run, worker
        self._progress.take_up(runs.counts(run), duplicates=row.duplicates, rejected=row.rejected)
        lost = ""
        if row.planned_at is None and is_retry(row.inputs):
            self._failures = True
        elif row.planned_at is None:
            try:
                self._entries = Inputs.again(row.inputs or [], row.source_offset, row.read)
            except SourceError as exc:
                lost = str(exc)
        found = Resumed(
            run, self._progress.accepted, self._progress.done, row.planned_at is not None, _end_of(row), lost
        )
        if lost:
            self._lost = SourceError(
                f"run {run}: what was accepted is fetched, but its input ended at {found.read_to}: {lost}. "
                "Fetch the rest of it as a new run"
            )
        return found

    def _check(self, config: FetchConfig) -> None:
        check_environment(config.headers)

    def _claim(self, run: int, worker: int) -> None:
        runs.resume(run, worker)

    def _register(self, run: int) -> int:
        return leases.register_worker(run)

    def _start(self, run: int, worker: int) -> None:
        runs.start(run, worker)

    def _saved(self, ids: list[int], tally: Tally) -> None:
        try:  # first: it reads the database and may be repeated, counting must not be
            self._listener.recorded(ids)
        except (DatabaseError, InterfaceError):
            raise
        except Exception as exc:  # noqa: BLE001  (a defect in what a listener shows never stops saving)
            report_defect(exc, "showing what was saved")
        self._progress.saved(tally)

    def _end(self) -> RunState:
        if not self._run:
            return RunState.PENDING
        # Together: a run without a worker that is not over yet would be shown as interrupted.
        with transaction.atomic():
            leases.let_go(self._worker)
            state = runs.finish(self._run, worker=self._worker)
        self._progress.correct(runs.counts(self._run))
        return state


def _end_of(run: Run) -> str:
    """Return how far a run's input was read, for people."""
    match run.source_offset:
        case {"source": source, "line": line}:
            return f"{source}, line {line}"
        case {"after": result}:
            return f"result {result} of run {run.parent_id}"
    return "its beginning"
