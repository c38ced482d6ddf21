"""A run that is saved whole, after it was fetched: what ``fanout/`` answers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import transaction

from fetcher.conf import Settings
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Outcome
from fetcher.models import Lane, Run, RunState
from fetcher.options import RunOptions
from fetcher.sources import Entry
from fetcher.store import runs, shards
from fetcher.store.plan import Planner
from fetcher.store.record import Recorder


def save_whole_run(
    config: FetchConfig,
    outcomes: Sequence[Outcome],
    settings: Settings,
    *,
    source: str,
    began: float,
    extract: Callable[[Outcome], Any] | None = None,
) -> int:
    """Save a completed run with these outcomes, one for each of different targets, in one transaction.

    ``began`` is seconds since the epoch. Returns the run's id.
    """
    moment = datetime.fromtimestamp(began, UTC)
    with transaction.atomic():
        run = runs.create_run(config, RunOptions(conditional=False), source=source)
        planner = Planner(run, config=config)
        planner.add([Entry(source, line, outcome.target) for line, outcome in enumerate(outcomes, 1)])
        refused = {entry.line for entry in planner.refused}  # positions count what is planned
        outcomes = [outcome for line, outcome in enumerate(outcomes, 1) if line not in refused]
        lanes = list(Lane.objects.filter(run=run).values_list("id", flat=True))
        opened = [shard for _, shard in shards.open_shards(lanes, after={})]
        slots = [slot for _, found in sorted(shards.open_slots(opened).items()) for slot in found]
        targets = shards.load_targets(run, slots, runs.variant_of(config), conditional=False)
        placed = [
            msgspec.structs.replace(outcomes[slot.position], target=target)
            for slot, target in zip(slots, targets, strict=True)
        ]
        Recorder(run, None, settings, extract=extract).record(placed, done=opened)
        Run.objects.filter(pk=run).update(
            created_at=moment, started_at=moment, planned_at=moment, state=RunState.RUNNING
        )
        runs.finish(run)
    return run
