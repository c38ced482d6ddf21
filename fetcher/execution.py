"""One process's work on a run: it leases lanes, fetches their targets and records the outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
from django.db import DatabaseError

from fetcher.conf import connection_options, fetcher_settings
from fetcher.disk import DiskWatch
from fetcher.engine.bodies import Spilling
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.descriptors import lowered_concurrency, raise_limit
from fetcher.engine.runner import Meter, fetch_all
from fetcher.extraction import parse_extract
from fetcher.feed import LaneFeed
from fetcher.garbage import rare_collections
from fetcher.options import RunOptions
from fetcher.pausing import SharedPauses
from fetcher.sink import Saved, Sink
from fetcher.store import leases, runs
from fetcher.store.record import Recorder
from fetcher.writer import Writer

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks whether the run was cancelled."""
CUT = 2.0
"""Seconds that requests in flight have to finish once it was."""


class Execution:
    """The work of one registered worker on one run.

    ``saved`` hears of every batch that was recorded. Once the ``control`` stops it, what is in flight is finished and
    saved; when cancelled, what was fetched is saved and the rest is left. It stops by itself when the run is cancelled.

    ``message`` hears of what a person should know, such as a limit of this machine.

    With ``patience`` (seconds) it is a slice of the work that others go on with: it does not wait for lanes that others
    have, it uses its part of the concurrency only, and what waits for another attempt is put down for the next.
    """

    def __init__(
        self,
        run: int,
        worker: int,
        config: FetchConfig,
        options: RunOptions,
        *,
        writer: Writer,
        control: Control,
        disk: DiskWatch,
        meter: Meter,
        saved: Saved,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: float | None = None,
        watch: leases.Watch | None = None,
        message: Callable[[str], None] = log.warning,
    ) -> None:
        self._run = run
        self._worker = worker
        self._config = _affordable(config, message)
        self._options = options
        self._writer = writer
        self._control = control
        self._disk = disk
        self._meter = meter
        self._saved = saved
        self._transport = transport
        self._patience = patience
        self._watch = watch
        self._feed: LaneFeed | None = None

    async def work(self, planning: Callable[[LaneFeed], Coroutine[Any, Any, None]]) -> None:
        """Work until nothing of the run is left. ``planning`` runs beside it and tells the feed of new shards.

        Raises what the planning raised, once what was accepted is fetched; DatabaseError.
        """
        working = asyncio.ensure_future(self._work(planning))
        cut = False

        def end() -> None:
            nonlocal cut
            cut = True
            working.cancel()

        async with background(self._obey(end)):
            try:
                with rare_collections:
                    await working
            except asyncio.CancelledError:
                if not cut:
                    raise

    async def _obey(self, end: Callable[[], None]) -> None:
        """Stop when somebody cancels the run; what is in flight has a moment to finish."""
        while not await self._writer(runs.is_cancelled, self._run):
            await asyncio.sleep(LOOK)
        self._control.stop()
        await asyncio.sleep(CUT)
        end()

    async def release_idle(self) -> None:
        """Give up, once it was stopped, the lanes of which nothing is in flight."""
        if self._feed is not None:
            await self._writer(self._feed.release_idle)

    async def _work(self, planning: Callable[[LaneFeed], Coroutine[Any, Any, None]]) -> None:
        options = self._options
        sliced = self._patience is not None
        settings = fetcher_settings()
        feed = self._feed = LaneFeed(
            self._run,
            self._worker,
            self._config,
            self._writer,
            runs.variant_of(self._config),
            conditional=options.conditional,
            sharers=self._control.share if sliced else lambda count: None,
            patience=self._patience,
            watch=self._watch,
        )
        recorder = Recorder(
            self._run,
            self._worker,
            settings,
            extract=None if options.extract is None else parse_extract(options.extract),
            keep_bodies=options.keep_body,
        )
        sink = Sink(recorder, feed, self._writer, self._disk, self._saved)
        pauses = SharedPauses(self._writer, self._control, self._config.max_retry_after)
        await pauses.look()
        spilling = Spilling(settings.spill_threshold, settings.spill_folder or None)
        outcomes = fetch_all(
            feed,
            self._config,
            transport=self._transport,
            connections=connection_options(),
            meter=self._meter,
            control=self._control,
            left=feed.left if sliced else None,
            paused=pauses.told,
            spilling=spilling,
        )
        async with (
            spilling,
            background(planning(feed)) as planned,
            background(self._renew()),
            background(pauses.keep_looking()),
        ):
            self._control.listen(lambda: cancel_once_stopped(planned, self._control))
            # An iterator to its callers; the generator that it is has the aclose() that typing misses here.
            async with contextlib.aclosing(outcomes), sink:  # type: ignore[type-var]
                async for outcome in outcomes:
                    feed.settle(outcome)
                    await sink.add(outcome)
            if not (self._control.stopped or sliced):  # others go on with what is planned after a slice
                await planned
        await pauses.save()
        if sliced:
            await self._writer(feed.release_idle)

    async def _renew(self) -> None:
        """Renew the lease, and send nothing while that has not worked for too long."""
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            await asyncio.sleep(leases.RENEWAL)
            began = clock()
            renewal = asyncio.ensure_future(self._writer(leases.renew, self._worker, self._run))
            silent_at = renewed + leases.SILENCE * leases.LEASE.total_seconds()
            await asyncio.wait([renewal], timeout=silent_at - began)
            if not renewal.done():
                self._control.hold()
            try:
                await renewal
            except DatabaseError as exc:  # there may be time for more tries
                log.warning("run %s: the lease was not renewed: %s", self._run, exc)
                if clock() >= silent_at:
                    self._control.hold()
                continue
            renewed = began
            self._control.go_on()


def _affordable(config: FetchConfig, message: Callable[[str], None]) -> FetchConfig:
    """Return the configuration with as much concurrency as this process may have open files for."""
    raise_limit()
    concurrency, remark = lowered_concurrency(config.concurrency)
    if not remark:
        return config
    message(remark)
    return dataclasses.replace(config, concurrency=concurrency)


def cancel_once_stopped(planning: asyncio.Task[None], control: Control) -> None:
    """Cancel a task where the control was stopped."""
    if control.stopped:
        planning.cancel()


@contextlib.asynccontextmanager
async def background(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a coroutine beside the block and cancel it when the block is left."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
