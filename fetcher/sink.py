"""Outcomes on their way into the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError

from fetcher.disk import DiskWatch
from fetcher.engine.bodies import SpilledBody
from fetcher.engine.defects import report_defect
from fetcher.engine.types import Outcome
from fetcher.feed import LaneFeed
from fetcher.progress import Tally
from fetcher.store.record import LaneLost, Recorder
from fetcher.store.recordable import place_of
from fetcher.writer import Writer

log = logging.getLogger(__name__)

BATCH = 2_000
"""Outcomes in one recording transaction, at most: larger ones write pages of the indexes less often."""
BATCH_BYTES = 16 * 2**20
"""Bytes of bodies in one recording transaction, about; those that were spilled count as well."""
FLUSH = 0.25
"""Seconds after which outcomes are recorded although the batch is not full."""

Saved = Callable[[list[int], Tally], None]
"""Takes the ids of results just saved and what they add up to; called in the writer thread."""


class Sink:
    """Collects outcomes into batches and has them recorded while the next batch fills.

    Leaving the context records what is left, also when it is left by an error or a cancellation. A body that was
    spilled is closed once it is recorded, or thrown away.
    """

    def __init__(self, recorder: Recorder, feed: LaneFeed, writer: Writer, disk: DiskWatch, saved: Saved) -> None:
        self._recorder = recorder
        self._feed = feed
        self._writer = writer
        self._disk = disk
        self._saved = saved
        self._batch: list[Outcome] = []
        self._bytes = 0
        self._saving: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Sink:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if self._timer:
            self._timer.cancel()
        if kind is not None:
            self._writer.hurry()
        drain = asyncio.ensure_future(self._drain())
        try:
            await asyncio.shield(drain)
        except asyncio.CancelledError:  # once this is left the lanes are given up, and nothing more can be recorded
            self._writer.hurry()
            with contextlib.suppress(Exception):
                await asyncio.shield(drain)
            raise

    async def add(self, outcome: Outcome) -> None:
        """Take an outcome; waits while the batch before is still being recorded and this one is full.

        Raises what went wrong when an earlier batch was recorded, and DiskNearlyFull, which leaves room to record what
        was taken.
        """
        self._batch.append(outcome)
        self._bytes += len(outcome.body or b"")
        self._disk.look()
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
        self._saving = self._writer(self._record, _Batch(batch))

    async def _drain(self) -> None:
        if self._saving is not None:
            await self._saving
        self._save()
        if self._saving is not None:
            await self._saving

    def _record(self, batch: _Batch) -> None:
        """Record a batch, or go on where a call before was left; outcomes of lanes that were lost are thrown away."""
        while batch.outcomes and not batch.recorded:
            try:
                new = self._recorder.record(batch.outcomes, done=self._feed.finished_shards(batch.outcomes))
            except LaneLost as lost:
                log.warning("%s", lost)
                dropped = [one for one in batch.outcomes if place_of(one).lane in lost.lanes]
                self._feed.drop(dropped, lost.lanes)
                _close_bodies(dropped)
                batch.outcomes = [one for one in batch.outcomes if place_of(one).lane not in lost.lanes]
            else:
                self._feed.recorded(batch.outcomes)
                batch.recorded = True
                _close_bodies(batch.outcomes)
                # What a worker recorded that had the lane meanwhile is its to tell.
                batch.outcomes = new
        if batch.outcomes:
            self._notify(batch)

    def _notify(self, batch: _Batch) -> None:
        """Say what was saved. A defect there costs nothing that is saved."""
        try:
            if batch.tally is None:
                batch.tally = Tally.of(batch.outcomes)
            self._saved([place_of(outcome).result for outcome in batch.outcomes], batch.tally)
        except (DatabaseError, InterfaceError):
            raise
        except Exception as exc:  # noqa: BLE001  (what is saved is saved)
            report_defect(exc, "showing what was saved")


def _close_bodies(outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        if isinstance(outcome.body, SpilledBody):
            outcome.body.close()


@dataclass(slots=True)
class _Batch:
    """Outcomes to record, and how far that came."""

    outcomes: list[Outcome]
    recorded: bool = False
    tally: Tally | None = None
