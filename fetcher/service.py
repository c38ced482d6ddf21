"""The use case: a list of URLs is planned, fetched and saved. Command, task and view enter here.

::

    entries -> reader thread -> Planner (writer thread) -> shards in the database
                                                              |
    results in the database <- Recorder (writer thread) <- fetch_all <- LaneFeed

Planning, fetching and saving go on at the same time; the database is what they share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import httpx
from django.db import DatabaseError, transaction

from fetcher.conf import fetcher_settings
from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.runner import fetch_all
from fetcher.engine.types import Outcome
from fetcher.estimate import Limits, RemainingWork
from fetcher.extraction import parse_extract
from fetcher.feed import LaneFeed
from fetcher.models import RunState
from fetcher.options import RunOptions
from fetcher.progress import Progress
from fetcher.reading import BufferedReader
from fetcher.sources import Entry, with_defaults
from fetcher.store import leases, runs
from fetcher.store.plan import Planner
from fetcher.store.record import LaneLost, Recorder
from fetcher.store.shards import Place
from fetcher.writer import Writer

log = logging.getLogger(__name__)

BATCH = 500
"""Outcomes in one recording transaction, at most."""
BATCH_BYTES = 16 * 2**20
"""Bytes of bodies in one recording transaction, about."""
FLUSH = 0.25
"""Seconds after which outcomes are recorded although the batch is not full."""


@dataclass(slots=True)
class Listener:
    """What a caller wants to hear of.

    ``recorded`` gets the ids of results just saved and runs in the writer thread, so that it may read the database;
    ``rejected`` gets lines that are no targets. ``message`` gets lines for the operator, in any thread.
    """

    progress: Progress = field(default_factory=Progress)
    started: Callable[[int], None] = lambda run: None
    rejected: Callable[[Entry], None] = lambda entry: None
    recorded: Callable[[list[int]], None] = lambda ids: None
    message: Callable[[str], None] = lambda text: None


async def fetch_list(
    entries: Iterable[Entry],
    config: FetchConfig,
    options: RunOptions | None = None,
    *,
    label: str = "",
    source: str = "",
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> RunState:
    """Plan, fetch and save a list as one run, and return the state that it ended in.

    ``entries`` is read in a thread of its own, so it may block; the options' ``method`` and ``data`` are for those of
    its targets that do not say otherwise. The run's number is ``listener.progress.run``. When
    cancelled, what was fetched is saved and the run is left interrupted.

    Raises ConfigError before anything is saved, SourceError once what was accepted is fetched, DatabaseError where
    nothing more can be saved, DiskNearlyFull where too little room is left.
    """
    check_environment(config.headers)
    options, listener = options or RunOptions(), listener or Listener()
    disk = DiskWatch.of_run(keeps_bodies=options.keep_body)
    disk.check()
    async with Writer(waiting=listener.message) as writer:
        execution = _Execution(config, options, writer, listener, disk, transport)
        entries = with_defaults(iter(entries), method=options.method, data=options.data)
        return await execution.execute(entries, label=label, source=source)


class _Execution:
    """One process's work on one run."""

    def __init__(
        self,
        config: FetchConfig,
        options: RunOptions,
        writer: Writer,
        listener: Listener,
        disk: DiskWatch,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._config = config
        self._options = options
        self._writer = writer
        self._listener = listener
        self._disk = disk
        self._progress = listener.progress
        self._progress.work = RemainingWork(Limits.of(config))
        self._transport = transport
        self._run = 0
        self._worker = 0

    async def execute(self, entries: Iterable[Entry], *, label: str, source: str) -> RunState:
        try:
            # Once: whoever starts a run is told at once that the database is away.
            await self._writer.once(self._begin, label, source)
            self._progress.run = self._run
            self._listener.started(self._run)
            await self._fetch(entries)
        except BaseException:
            self._writer.hurry()
            try:
                await asyncio.shield(self._writer(self._end))
            except DatabaseError as exc:  # what came first is what is told; without an end the run is interrupted
                log.info("run %s: its end was not saved: %s", self._run, exc)
            raise
        return await asyncio.shield(self._writer(self._end))

    async def _fetch(self, entries: Iterable[Entry]) -> None:
        options = self._options
        feed = LaneFeed(
            self._run,
            self._worker,
            self._config,
            self._writer,
            runs.variant_of(self._config),
            conditional=options.conditional,
        )
        recorder = Recorder(
            self._run,
            self._worker,
            fetcher_settings(),
            extract=None if options.extract is None else parse_extract(options.extract),
            keep_bodies=options.keep_body,
        )
        sink = _Sink(recorder, feed, self._writer, self._listener, self._disk)
        async with _background(self._plan(entries, feed)) as planning, _background(self._renew()):
            outcomes = fetch_all(feed, self._config, transport=self._transport, meter=self._progress.meter)
            async with contextlib.aclosing(outcomes), sink:  # type: ignore[type-var]
                async for outcome in outcomes:
                    feed.settle(outcome)
                    await sink.add(outcome)
            await planning

    async def _plan(self, entries: Iterable[Entry], feed: LaneFeed) -> None:
        planner = Planner(self._run, config=self._config)
        reader = BufferedReader(entries)
        try:
            async for batch in reader.batches():
                for entry in batch:
                    if entry.target is None:
                        self._listener.rejected(entry)
                self._disk.look()
                await self._writer(self._add, planner, batch)
                self._progress.accepted = planner.accepted
                self._progress.duplicates = planner.duplicates
                self._progress.rejected = planner.rejected
                feed.planned()
                await asyncio.sleep(0)  # let the feed have the writer first: what is planned should be fetched
            await self._writer(runs.planned, self._run)
            self._progress.planned = True
        finally:
            reader.stop()
            feed.end_of_plan()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(leases.RENEWAL)
            try:
                await self._writer(leases.renew, self._worker)
            except DatabaseError as exc:  # there is time for more tries before the lease is over
                log.warning("run %s: the lease was not renewed: %s", self._run, exc)

    def _add(self, planner: Planner, batch: list[Entry]) -> None:
        """Plan a batch (in the writer thread)."""
        accepted = planner.add(batch)
        if self._progress.work is not None:
            self._progress.work.accepted(accepted)

    # In the writer thread, one after the other: however early a cancellation comes, the end finds what was begun.

    def _begin(self, label: str, source: str) -> None:
        self._run = runs.create_run(self._config, self._options, label=label, source=source)
        self._worker = leases.register_worker()
        runs.start(self._run)

    def _end(self) -> RunState:
        if not self._run:
            return RunState.PENDING
        # Together: a run without a worker that is not over yet would be shown as interrupted.
        with transaction.atomic():
            if self._worker:
                leases.let_go(self._worker)
            return runs.finish(self._run)


class _Sink:
    """Collects outcomes into batches and has them recorded while the next batch fills.

    Leaving the context records what is left, also when it is left by an error or a cancellation.
    """

    def __init__(self, recorder: Recorder, feed: LaneFeed, writer: Writer, listener: Listener, disk: DiskWatch) -> None:
        self._recorder = recorder
        self._feed = feed
        self._writer = writer
        self._listener = listener
        self._disk = disk
        self._batch: list[Outcome] = []
        self._bytes = 0
        self._saving: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> _Sink:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if self._timer:
            self._timer.cancel()
        if kind is not None:
            self._writer.hurry()
        await asyncio.shield(asyncio.ensure_future(self._drain()))

    async def add(self, outcome: Outcome) -> None:
        """Take an outcome; waits while the batch before is still being recorded and this one is full.

        Raises what went wrong when an earlier batch was recorded, and DiskNearlyFull, which leaves room to record what
        was taken.
        """
        self._batch.append(outcome)
        self._bytes += len(outcome.body or b"")
        if self._saving is not None and self._saving.done():
            self._saving.result()
        self._disk.look()
        if len(self._batch) >= BATCH or self._bytes >= BATCH_BYTES:
            if self._saving is not None:
                await asyncio.shield(self._saving)  # a cancellation is not for the batch
            self._save()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._saving is not None and not self._saving.done():
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)
        elif self._saving is None or self._saving.exception() is None:
            self._save()

    def _save(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._batch:
            return
        batch, self._batch, self._bytes = self._batch, [], 0
        self._saving = self._writer(self._record, _Batch(batch))

    async def _drain(self) -> None:
        if self._saving is not None:
            await self._saving
        self._save()
        if self._saving is not None:
            await self._saving

    def _record(self, batch: _Batch) -> None:
        """Record a batch, and go on where a call before was left (in the writer thread)."""
        if batch.done is None:
            batch.done = self._feed.finished_shards(batch.outcomes)
        while batch.recorded is None:
            try:
                batch.recorded = self._recorder.record(batch.outcomes, done=batch.done)
            except LaneLost as lost:
                log.warning("run %s: %s", self._listener.progress.run, lost)
                self._feed.drop(lost.lanes)
                batch.leave_out(lost.lanes)
            else:
                self._listener.progress.saved(batch.outcomes)
        self._listener.recorded(batch.recorded)


@dataclass(slots=True)
class _Batch:
    """Outcomes to record, and how far that came: the shards that they complete, then the results' ids."""

    outcomes: list[Outcome]
    done: list[int] | None = None
    recorded: list[int] | None = None

    def leave_out(self, lanes: Iterable[int]) -> None:
        """Forget what belongs to these lanes."""
        lost = frozenset(lanes)
        self.outcomes = [outcome for outcome in self.outcomes if _place(outcome).lane not in lost]
        kept = {_place(outcome).shard for outcome in self.outcomes}
        self.done = [shard for shard in self.done or () if shard in kept]


def _place(outcome: Outcome) -> Place:
    place = outcome.target.key
    assert isinstance(place, Place)
    return place


@contextlib.asynccontextmanager
async def _background(coroutine: object) -> AsyncIterator[asyncio.Task[None]]:
    """Run a coroutine beside the block and cancel it when the block is left."""
    task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
