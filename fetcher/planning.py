"""Reading a source and planning what it gives, while what is planned is being fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fetcher.feed import LaneFeed
from fetcher.progress import Progress
from fetcher.reading import BufferedReader
from fetcher.sources import Entry
from fetcher.store import runs
from fetcher.store.plan import Planner
from fetcher.writer import Writer


async def plan_entries(
    entries: Iterable[Entry],
    planner: Planner,
    feed: LaneFeed,
    *,
    writer: Writer,
    progress: Progress,
    rejected: Callable[[Entry], None],
) -> None:
    """Plan all entries, batch by batch, and note that the source was read to its end.

    Raises SourceError once everything before it is planned, PlanLost, DatabaseError.
    """
    reader = BufferedReader(entries)
    try:
        async for batch in reader.batches():
            for entry in batch:
                if entry.target is None:
                    rejected(entry)
            await writer(_add, planner, batch, progress)
            feed.planned()
            await asyncio.sleep(0)  # let the feed have the writer first: what is planned should be fetched
        await writer(runs.planned, planner.run)
        progress.planned = True
    finally:
        reader.stop()


def _add(planner: Planner, batch: list[Entry], progress: Progress) -> None:
    """Plan a batch (in the writer thread)."""
    accepted = planner.add(batch)
    if progress.work is not None:
        progress.work.accepted(accepted)
    progress.accepted = planner.accepted
    progress.duplicates = planner.duplicates
    progress.rejected = planner.rejected
