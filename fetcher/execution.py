"""One process's work on a run: it leases lanes, fetches their targets and records the outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
from django.db import DatabaseError

from fetcher.conf import fetcher_settings
from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.runner import Meter, fetch_all
from fetcher.extraction import parse_extract
from fetcher.feed import LaneFeed
from fetcher.options import RunOptions
from fetcher.sink import Saved, Sink
from fetcher.store import leases, runs
from fetcher.store.record import Recorder
from fetcher.writer import Writer

log = logging.getLogger(__name__)


class Execution:
    """The work of one registered worker on one run.

    ``saved`` hears of every batch that was recorded. Once the ``control`` stops it, what is in flight is finished and
    saved; when cancelled, what was fetched is saved and the rest is left.
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
    ) -> None:
        self._run = run
        self._worker = worker
        self._config = config
        self._options = options
        self._writer = writer
        self._control = control
        self._disk = disk
        self._meter = meter
        self._saved = saved
        self._transport = transport

    async def work(self, planning: Callable[[LaneFeed], Coroutine[Any, Any, None]]) -> None:
        """Work until nothing of the run is left. ``planning`` runs beside it and tells the feed of new shards.

        Raises what the planning raised, once what was accepted is fetched; DatabaseError.
        """
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
        sink = Sink(recorder, feed, self._writer, self._disk, self._saved)
        outcomes = fetch_all(feed, self._config, transport=self._transport, meter=self._meter, control=self._control)
        async with background(planning(feed)) as planned, background(self._renew()):
            self._control.listen(lambda: _cancel_once_stopped(planned, self._control))
            # An iterator to its callers; the generator that it is has the aclose() that typing misses here.
            async with contextlib.aclosing(outcomes), sink:  # type: ignore[type-var]
                async for outcome in outcomes:
                    feed.settle(outcome)
                    await sink.add(outcome)
            if not self._control.stopped:
                await planned

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


def _cancel_once_stopped(planning: asyncio.Task[None], control: Control) -> None:
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
