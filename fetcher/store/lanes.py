"""Targets into the shards of a run's lanes: what all planners share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db import connection, transaction

from fetcher.headers import Sealed
from fetcher.models import SHARD_SIZE, Lane, Shard, lane_number
from fetcher.secrets import seal
from fetcher.store import runs
from fetcher.store.shards import Payload, Secrets, encode_payload
from fetcher.store.sql import in_batches, insert_rows


class Planned(NamedTuple):
    """A target on its way into a shard, by its row's id. ``secrets`` are the values of its own secret headers."""

    target: int
    host: str
    position: int
    label: str | None = None
    retry: bool = False
    secrets: Sealed = ()


Key = tuple[int, int]
"""A lane's number and part."""


class PlanLost(Exception):
    """Another worker plans the run by now; nothing was planned here."""


def by_lane(planned: Sequence[Planned], split: int = 1) -> dict[Key, list[Planned]]:
    """Spread targets, in their order, over the lanes of their hosts; ``split`` lanes share each host."""
    numbers = {host: lane_number(host) for host in {item.host for item in planned}}
    lanes: dict[Key, list[Planned]] = {}
    for item in planned:
        lanes.setdefault((numbers[item.host], item.position % split), []).append(item)
    return lanes


def payload_of(part: Sequence[Planned]) -> Payload:
    """Return the payload of a shard with these targets; their secrets are sealed in it."""
    labels = [item.label for item in part]
    secrets: Secrets = {place: item.secrets for place, item in enumerate(part) if item.secrets}
    return Payload(
        targets=[item.target for item in part],
        positions=[item.position for item in part],
        labels=labels if any(label is not None for label in labels) else None,
        retries=[place for place, item in enumerate(part) if item.retry] or None,
        sealed=seal(secrets) if secrets else None,
    )


class ShardWriter:
    """Writes the shards of one run, and opens its lanes as hosts need them; ``split`` lanes share each host."""

    def __init__(self, run: int, split: int = 1) -> None:
        self._run = run
        self._split = split
        self._lanes: dict[Key, int] = {}

    def write(self, planned: Sequence[Planned]) -> None:
        """Write targets, in their order, into new shards of their hosts' lanes. Call it inside of a transaction."""
        by_key = by_lane(planned, self._split)
        lanes = self._open_lanes(by_key)
        # In the order in which recording locks the lanes' rows: no deadlock between the two.
        in_order = sorted((lanes[key], items) for key, items in by_key.items())
        rows = [
            (self._run, lane, len(part), encode_payload(payload_of(part)))
            for lane, items in in_order
            for part in in_batches(items, SHARD_SIZE)
        ]
        if any(item.secrets for item in planned):
            runs.expect_secrets(self._run)
        insert_rows(Shard, ("run", "lane", "size", "payload"), rows)
        with connection.cursor() as cursor:  # a query of the ORM's for each of 256 lanes costs as much as all the rest
            cursor.executemany(
                "UPDATE fetcher_lane SET planned = planned + %s WHERE id = %s",
                [(len(items), lane) for lane, items in in_order],
            )

    def _open_lanes(self, wanted: Iterable[Key]) -> dict[Key, int]:
        """Return the row id for each lane that the run has or now needs."""
        missing = sorted(set(wanted) - self._lanes.keys())
        if not missing:
            return self._lanes
        Lane.objects.bulk_create(
            [Lane(run_id=self._run, number=number, part=part) for number, part in missing], ignore_conflicts=True
        )
        rows = Lane.objects.filter(run=self._run, number__in={number for number, _ in missing})
        found = {(number, part): pk for number, part, pk in rows.values_list("number", "part", "id")}
        # Only then: lanes of a transaction that failed do not exist.
        transaction.on_commit(lambda: self._lanes.update(found))
        return self._lanes | found
