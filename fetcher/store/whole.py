"""A run that is saved whole, after it was fetched: what ``fanout/`` answers with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
from django.db import transaction

from fetcher.conf import Settings
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Outcome
from fetcher.extraction import NOTHING, Found
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
    extracted: Sequence[Found] | None = None,
) -> int:
    """Save a completed run with these outcomes, one for each of different targets, in one transaction.

    ``began`` is seconds since the epoch, ``extracted`` what is saved beside each outcome: nothing is evaluated while
    the transaction holds up other writers. Returns the run's id.
    """
    kept: list[tuple[Outcome, Found]] = []

    def extract(placed: Iterable[Outcome]) -> list[Found]:
        return [kept[_position(outcome)][1] for outcome in placed]

    moment = datetime.fromtimestamp(began, UTC)
    with transaction.atomic():
        run = runs.create_run(config, RunOptions(conditional=False), source=source)
        planner = Planner(run, config=config)
        planner.add([Entry(source, line, outcome.target) for line, outcome in enumerate(outcomes, 1)])
        refused = {entry.line for entry in planner.refused}  # positions count what is planned
        found = [NOTHING] * len(outcomes) if extracted is None else extracted
        pairs = enumerate(zip(outcomes, found, strict=True), 1)
        kept.extend(pair for line, pair in pairs if line not in refused)
        lanes = list(Lane.objects.filter(run=run).values_list("id", flat=True))
        opened = [shard for _, shard in shards.open_shards(lanes, after={})]
        slots = [slot for _, some in sorted(shards.open_slots(opened).items()) for slot in some]
        targets = shards.load_targets(run, slots, runs.variant_of(config), conditional=False)
        placed = [
            msgspec.structs.replace(kept[slot.position][0], target=target)
            for slot, target in zip(slots, targets, strict=True)
        ]
        Recorder(run, None, settings, extract=extract).record(placed, done=opened)
        Run.objects.filter(pk=run).update(
            created_at=moment, started_at=moment, planned_at=moment, state=RunState.RUNNING
        )
        runs.finish(run)
    return run


def _position(outcome: Outcome) -> int:
    place = outcome.target.key
    assert isinstance(place, shards.Place)
    return place.position
