"""Reading a source and planning what it gives, while what is planned is being fetched."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from fetcher.disk import DiskWatch
from fetcher.engine.defects import report_defect
from fetcher.progress import Progress
from fetcher.reading import BufferedReader
from fetcher.sources import Entry
from fetcher.store import runs
from fetcher.store.plan import Planner
from fetcher.store.retry import RetryPlanner
from fetcher.writer import Writer


async def plan_entries(
    entries: Iterable[Entry],
    planner: Planner,
    planned: Callable[[], None],
    *,
    writer: Writer,
    disk: DiskWatch,
    progress: Progress,
    rejected: Callable[[Entry], None],
) -> None:
    """Plan all entries, batch by batch, and note that the source was read to its end.

    ``planned`` hears of every batch that is accepted. Raises SourceError once everything before it is planned,
    PlanLost, DatabaseError, DiskNearlyFull.
    """
    reader = BufferedReader(entries)
    try:
        async for batch in reader.batches():
            disk.look()
            _show([entry for entry in batch if entry.target is None], rejected)
            await writer(_note, planner, partial(planner.add, batch), progress)
            _show(planner.refused, rejected)
            planned()
            await asyncio.sleep(0)  # let the feed have the writer first: what is planned should be fetched
        await writer(runs.planned, planner.run)
        progress.planned = True
    finally:
        reader.stop()


def _show(entries: Iterable[Entry], rejected: Callable[[Entry], None]) -> None:
    """Show rejected lines; where that cannot be done the others are planned all the same."""
    for entry in entries:
        try:
            rejected(entry)
        except Exception as exc:  # noqa: BLE001  (a stream that cannot be written never stops fetching)
            report_defect(exc, "showing a rejected line")


async def plan_failures(
    planner: RetryPlanner, planned: Callable[[], None], *, writer: Writer, progress: Progress
) -> None:
    """Plan the failures of another run. Raises SourceError where that is gone, PlanLost, DatabaseError."""
    while await writer(_note, planner, planner.add_more, progress):
        planned()
        await asyncio.sleep(0)
    await writer(runs.planned, planner.run)
    progress.planned = True


def _note(planner: Planner | RetryPlanner, plan: Callable[[], Counter[str] | None], progress: Progress) -> bool:
    """Plan a step (in the writer thread) and count it; False where there was nothing more to plan."""
    accepted = plan()
    if progress.work is not None:
        progress.work.accepted(accepted or {})
    progress.accepted = planner.accepted
    progress.duplicates = planner.duplicates
    progress.rejected = planner.rejected
    return accepted is not None
