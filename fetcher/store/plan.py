"""A source's entries to targets, lanes and shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import F

from fetcher.engine import types
from fetcher.engine.config import SECRET_HEADERS
from fetcher.engine.urls import fingerprint
from fetcher.models import SHARD_SIZE, Lane, RejectedLine, Run, Shard, Target, lane_number
from fetcher.secrets import derived_key
from fetcher.sources import Entry
from fetcher.store.shards import Payload, encode_payload
from fetcher.store.sql import for_database, in_batches, insert_rows

_CHUNK = 2**16


class IdSet:
    """A set of row ids as bits, in chunks: exact, and a million neighbouring ids take 128 KiB."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, number: int) -> bool:
        """Add an id; return whether it was new."""
        chunk = self._chunks.setdefault(number // _CHUNK, bytearray(_CHUNK // 8))
        place, bit = divmod(number % _CHUNK, 8)
        new = not chunk[place] & (1 << bit)
        chunk[place] |= 1 << bit
        return new


class Planner:
    """Plans one run. A call of ``add`` is one transaction: what it took is accepted when it returns."""

    def __init__(self, run: int) -> None:
        self.run = run
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self._position = 0
        self._seen = IdSet()
        self._lanes: dict[int, int] = {}
        self._key = derived_key("fingerprint")

    def add(self, entries: Sequence[Entry]) -> None:
        """Accept the targets among the entries and keep the rejected lines; the source's offset goes with them."""
        if not entries:
            return
        targets = [entry.target for entry in entries if entry.target is not None]
        rejected = [entry for entry in entries if entry.target is None]
        prints = [self._fingerprint(target) for target in targets]
        with transaction.atomic():
            ids = self._target_ids(prints, targets)
            fresh = [index for index, mark in enumerate(prints) if self._seen.add(ids[mark])]
            self._save_shards([(targets[index], ids[prints[index]], self._position + index) for index in fresh])
            insert_rows(
                RejectedLine,
                ("run", "source", "line", "value", "reason"),
                [(self.run, entry.source, entry.line, entry.value, entry.reason) for entry in rejected],
            )
            duplicates = len(targets) - len(fresh)
            Run.objects.filter(pk=self.run).update(
                duplicates=F("duplicates") + duplicates,
                rejected=F("rejected") + len(rejected),
                source_offset={"source": entries[-1].source, "line": entries[-1].line},
            )
        self._position += len(targets)
        self.accepted += len(fresh)
        self.duplicates += duplicates
        self.rejected += len(rejected)

    def _fingerprint(self, target: types.Target) -> bytes:
        return fingerprint(
            target.method, target.url, target.headers, target.body, secret_names=SECRET_HEADERS, key=self._key
        )

    def _target_ids(self, prints: Sequence[bytes], targets: Sequence[types.Target]) -> dict[bytes, int]:
        """Return the row id for each fingerprint, adding the targets that are new."""
        wanted = dict(zip(reversed(prints), reversed(targets), strict=True))
        ids = _ids(list(wanted))
        missing = sorted(mark for mark in wanted if mark not in ids)  # one order for all planners: no deadlock
        insert_rows(
            Target,
            ("fingerprint", "method", "url", "host", "headers", "body"),
            [(mark, *_columns(wanted[mark])) for mark in missing],
            skip_conflicts=True,
        )
        return ids | _ids(missing)

    def _save_shards(self, placed: Sequence[tuple[types.Target, int, int]]) -> None:
        lanes: dict[int, list[tuple[types.Target, int, int]]] = {}
        for item in placed:
            lanes.setdefault(lane_number(item[0].host), []).append(item)
        self._open_lanes(sorted(lanes))
        rows = []
        for number, items in lanes.items():
            for part in in_batches(items, SHARD_SIZE):
                labels = [target.label for target, _, _ in part]
                payload = Payload(
                    targets=[pk for _, pk, _ in part],
                    positions=[position for _, _, position in part],
                    labels=labels if any(label is not None for label in labels) else None,
                )
                rows.append((self.run, self._lanes[number], len(part), encode_payload(payload)))
        rows.sort(key=lambda row: row[1])
        insert_rows(Shard, ("run", "lane", "size", "payload"), rows)
        for number in sorted(lanes):
            Lane.objects.filter(pk=self._lanes[number]).update(planned=F("planned") + len(lanes[number]))

    def _open_lanes(self, numbers: Sequence[int]) -> None:
        missing = [number for number in numbers if number not in self._lanes]
        if not missing:
            return
        Lane.objects.bulk_create([Lane(run_id=self.run, number=number) for number in missing], ignore_conflicts=True)
        found = Lane.objects.filter(run=self.run, number__in=missing, part=0)
        self._lanes.update(found.values_list("number", "id"))


def _columns(target: types.Target) -> tuple[Any, ...]:
    headers = [list(pair) for pair in target.headers] or None
    return target.method, target.url, target.host, for_database(Target, "headers", headers), target.body


def _ids(prints: Sequence[bytes]) -> dict[bytes, int]:
    found = {}
    for batch in in_batches(prints):
        for mark, pk in Target.objects.filter(fingerprint__in=batch).values_list("fingerprint", "id"):
            found[bytes(mark)] = pk
    return found
