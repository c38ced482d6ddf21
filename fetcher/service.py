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
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx
from django.db import DatabaseError, transaction

from fetcher.causes import Cause
from fetcher.conf import fetcher_settings
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
from fetcher.store.retry import RetryPlanner, create_retry
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
    ``rejected`` gets lines that are no targets.
    """

    progress: Progress = field(default_factory=Progress)
    started: Callable[[int], None] = lambda run: None
    rejected: Callable[[Entry], None] = lambda entry: None
    recorded: Callable[[list[int]], None] = lambda ids: None


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
    nothing more can be saved.
    """
    check_environment(config.headers)
    async with Writer() as writer:
        options = options or RunOptions()
        execution = _Execution(config, options, writer, listener or Listener(), transport)
        create = partial(runs.create_run, config, options, label=label, source=source)
        return await execution.execute(create, with_defaults(iter(entries), method=options.method, data=options.data))


async def fetch_failures(
    parent: int,
    causes: Sequence[Cause],
    config: FetchConfig,
    options: RunOptions,
    *,
    label: str = "",
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> RunState:
    """Fetch again what failed or was skipped in another run by these causes (none: by any), as one new run.

    Everything else is as in ``fetch_list``; the targets are what they were, so ``method`` and ``data`` go unused.
    """
    check_environment(config.headers)
    async with Writer() as writer:
        execution = _Execution(config, options, writer, listener or Listener(), transport)
        return await execution.execute(partial(create_retry, parent, causes, config, options, label=label))


class _Execution:
    """One process's work on one run."""

    def __init__(
        self,
        config: FetchConfig,
        options: RunOptions,
        writer: Writer,
        listener: Listener,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._config = config
        self._options = options
        self._writer = writer
        self._listener = listener
        self._progress = listener.progress
        self._progress.work = RemainingWork(Limits.of(config))
        self._transport = transport
        self._run = 0
        self._worker = 0

    async def execute(self, create: Callable[[], int], entries: Iterable[Entry] | None = None) -> RunState:
        """Create the run and bring it to its end; without entries it is one over another run's failures."""
        try:
            await self._writer(self._begin, create)
            self._progress.run = self._run
            self._listener.started(self._run)
            await self._fetch(entries)
        finally:
            state = await asyncio.shield(self._writer(self._end))
        return state

    async def _fetch(self, entries: Iterable[Entry] | None) -> None:
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
        sink = _Sink(recorder, feed, self._writer, self._listener)
        async with _background(self._plan(entries, feed)) as planning, _background(self._renew()):
            outcomes = fetch_all(feed, self._config, transport=self._transport, meter=self._progress.meter)
            async with contextlib.aclosing(outcomes), sink:  # type: ignore[type-var]
                async for outcome in outcomes:
                    feed.settle(outcome)
                    await sink.add(outcome)
            await planning

    async def _plan(self, entries: Iterable[Entry] | None, feed: LaneFeed) -> None:
        try:
            if entries is None:
                await self._plan_failures(feed)
            else:
                await self._plan_list(entries, feed)
            await self._writer(runs.planned, self._run)
            self._progress.planned = True
        finally:
            feed.end_of_plan()

    async def _plan_list(self, entries: Iterable[Entry], feed: LaneFeed) -> None:
        planner = Planner(self._run, config=self._config)
        reader = BufferedReader(entries)
        try:
            async for batch in reader.batches():
                for entry in batch:
                    if entry.target is None:
                        self._listener.rejected(entry)
                await self._writer(self._note, planner, partial(planner.add, batch))
                feed.planned()
                await asyncio.sleep(0)  # let the feed have the writer first: what is planned should be fetched
        finally:
            reader.stop()

    async def _plan_failures(self, feed: LaneFeed) -> None:
        planner = await self._writer(RetryPlanner, self._run)
        while await self._writer(self._note, planner, planner.add_more):
            feed.planned()
            await asyncio.sleep(0)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(leases.RENEWAL)
            try:
                await self._writer(leases.renew, self._worker)
            except DatabaseError as exc:  # there is time for more tries before the lease is over
                log.warning("run %s: the lease was not renewed: %s", self._run, exc)

    def _note(self, planner: Planner | RetryPlanner, plan: Callable[[], Counter[str] | None]) -> bool:
        """Plan a step (in the writer thread) and count it; False where there was nothing more to plan."""
        accepted = plan()
        if self._progress.work is not None:
            self._progress.work.accepted(accepted or {})
        self._progress.accepted = planner.accepted
        self._progress.duplicates = planner.duplicates
        self._progress.rejected = planner.rejected
        return accepted is not None

    # In the writer thread, one after the other: however early a cancellation comes, the end finds what was begun.

    def _begin(self, create: Callable[[], int]) -> None:
        self._run = create()
        self._worker = leases.register_worker()
        runs.start(self._run)

    def _end(self) -> RunState:
        # Together: a run without a worker that is not over yet would be shown as interrupted.
        with transaction.atomic():
            if self._worker:
                leases.let_go(self._worker)
            return runs.finish(self._run) if self._run else RunState.PENDING


class _Sink:
    """Collects outcomes into batches and has them recorded while the next batch fills.

    Leaving the context records what is left, also when it is left by an error or a cancellation.
    """

    def __init__(self, recorder: Recorder, feed: LaneFeed, writer: Writer, listener: Listener) -> None:
        self._recorder = recorder
        self._feed = feed
        self._writer = writer
        self._listener = listener
        self._batch: list[Outcome] = []
        self._bytes = 0
        self._saving: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> _Sink:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._timer:
            self._timer.cancel()
        await asyncio.shield(asyncio.ensure_future(self._drain()))

    async def add(self, outcome: Outcome) -> None:
        """Take an outcome; waits while the batch before is still being recorded and this one is full.

        Raises what went wrong when an earlier batch was recorded.
        """
        self._batch.append(outcome)
        self._bytes += len(outcome.body or b"")
        if self._saving is not None and self._saving.done():
            self._saving.result()
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
        self._saving = self._writer(self._record, batch)

    async def _drain(self) -> None:
        if self._saving is not None:
            await self._saving
        self._save()
        if self._saving is not None:
            await self._saving

    def _record(self, batch: list[Outcome]) -> None:
        """Record a batch (in the writer thread)."""
        done = self._feed.finished_shards(batch)
        while batch:
            try:
                ids = self._recorder.record(batch, done=done)
            except LaneLost as lost:
                log.warning("run %s: %s", self._listener.progress.run, lost)
                self._feed.drop(lost.lanes)
                batch = [outcome for outcome in batch if _place(outcome).lane not in lost.lanes]
                kept = {_place(outcome).shard for outcome in batch}
                done = [shard for shard in done if shard in kept]
                continue
            self._listener.progress.saved(batch)
            self._listener.recorded(ids)
            return


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
