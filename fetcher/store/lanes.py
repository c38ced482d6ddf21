"""Targets into the shards of a run's lanes: what all planners share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db import connection, transaction

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
    secrets: tuple[str, ...] = ()


class ShardWriter:
    """Writes the shards of one run, and opens its lanes as hosts need them."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._lanes: dict[int, int] = {}

    def write(self, planned: Sequence[Planned]) -> None:
        """Write targets, in their order, into new shards of their hosts' lanes. Call it inside of a transaction."""
        numbers = {host: lane_number(host) for host in {item.host for item in planned}}
        lanes = self._open_lanes(set(numbers.values()))
        by_lane: dict[int, list[Planned]] = {}
        for item in planned:
            by_lane.setdefault(lanes[numbers[item.host]], []).append(item)
        # In the order in which recording locks the lanes' rows: no deadlock between the two.
        in_order = sorted(by_lane.items())
        rows = [
            (self._run, lane, len(part), encode_payload(self._payload(part)))
            for lane, items in in_order
            for part in in_batches(items, SHARD_SIZE)
        ]
        insert_rows(Shard, ("run", "lane", "size", "payload"), rows)
        with connection.cursor() as cursor:  # a query of the ORM's for each of 256 lanes costs as much as all the rest
            cursor.executemany(
                "UPDATE fetcher_lane SET planned = planned + %s WHERE id = %s",
                [(len(items), lane) for lane, items in in_order],
            )

    def _payload(self, part: Sequence[Planned]) -> Payload:
        labels = [item.label for item in part]
        secrets: Secrets = {place: item.secrets for place, item in enumerate(part) if item.secrets}
        if secrets:
            runs.expect_secrets(self._run)
        return Payload(
            targets=[item.target for item in part],
            positions=[item.position for item in part],
            labels=labels if any(label is not None for label in labels) else None,
            retries=[place for place, item in enumerate(part) if item.retry] or None,
            sealed=seal(secrets) if secrets else None,
        )

    def _open_lanes(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the row id for each lane number that the run has or now needs."""
        missing = sorted(set(numbers) - self._lanes.keys())
        if not missing:
            return self._lanes
        Lane.objects.bulk_create([Lane(run_id=self._run, number=number) for number in missing], ignore_conflicts=True)
        rows = Lane.objects.filter(run=self._run, number__in=missing, part=0)
        found = dict(rows.values_list("number", "id"))
        # Only then: lanes of a transaction that failed do not exist.
        transaction.on_commit(lambda: self._lanes.update(found))
        return self._lanes | found
