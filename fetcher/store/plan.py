"""A source's entries to targets, lanes and shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from fetcher.engine import types
from fetcher.engine.config import FetchConfig
from fetcher.engine.urls import fingerprint
from fetcher.models import RejectedLine, Run, Shard, Target
from fetcher.secrets import derived_key
from fetcher.sources import Entry
from fetcher.store.lanes import PlanLost, Planned, ShardWriter
from fetcher.store.shards import decode_payload
from fetcher.store.sql import for_database, in_batches, insert_rows
from fetcher.texts import clean_text

_CHUNK = 2**16


class IdSet:
    """A set of row ids as bits, in chunks: exact, and a million neighbouring ids take 128 KiB."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        """Add an id, known or not."""
        chunk = self._chunks.setdefault(number // _CHUNK, bytearray(_CHUNK // 8))
        place, bit = divmod(number % _CHUNK, 8)
        chunk[place] |= 1 << bit

    def __contains__(self, number: int) -> bool:
        chunk = self._chunks.get(number // _CHUNK)
        place, bit = divmod(number % _CHUNK, 8)
        return chunk is not None and bool(chunk[place] & (1 << bit))


class Planner:
    """Plans one run. A call of ``add`` is one transaction: what it took is accepted when it returns.

    Where ``add`` raises nothing was taken, neither in the database nor here, and it may be called again; also where
    the database took it and could not say so any more. ``worker`` is the run's planner. ``split`` spreads each host
    over so many lanes. ``offset`` gives what is kept beside the number of entries that are accounted for.
    """

    def __init__(
        self,
        run: int,
        worker: int | None = None,
        *,
        config: FetchConfig | None = None,
        split: int = 1,
        offset: Callable[[int], dict[str, Any]] = lambda read: {},
    ) -> None:
        self.run = run
        self._worker = worker
        self._config = config or FetchConfig()
        self._offset = offset
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self.read = 0
        self._seen = IdSet()
        self._shards = ShardWriter(run, split)
        self._key = derived_key("fingerprint")

    def load(self) -> None:
        """Take up what was planned before, by another process."""
        row = Run.objects.values("read", "duplicates", "rejected").get(pk=self.run)
        self.read, self.duplicates, self.rejected = row["read"], row["duplicates"], row["rejected"]
        self.accepted = 0
        if not self.read:
            return
        for payload in Shard.objects.filter(run=self.run).values_list("payload", flat=True).iterator(chunk_size=200):
            for pk in decode_payload(bytes(payload)).targets:
                self._seen.add(pk)
                self.accepted += 1

    def add(self, entries: Sequence[Entry]) -> Counter[str]:
        """Accept the targets among the entries and keep the rejected lines; the source's offset goes with them.

        Returns how many targets of each host were accepted. Raises PlanLost.
        """
        if not entries:
            return Counter()
        targets = [entry.target for entry in entries if entry.target is not None]
        rejected = [entry for entry in entries if entry.target is None]
        prints = [self._fingerprint(target) for target in targets]
        first = self.read - self.rejected
        fresh: dict[int, int] = {}
        try:
            with transaction.atomic():
                ids = self._target_ids(prints, targets)
                fresh = self._first_places([ids[mark] for mark in prints])
                self._shards.write([self._planned(targets[index], pk, first + index) for pk, index in fresh.items()])
                self._keep_rejected(rejected)
                # After the lanes, as whoever gives up a lane and ends its run locks them: no deadlock between the two.
                self._advance(entries, len(targets) - len(fresh), len(rejected))
        except PlanLost:
            if not self._is_committed(len(entries)):
                raise
        # Only now: what a transaction that failed has noted would be taken for known the next time.
        for pk in fresh:
            self._seen.add(pk)
        self.read += len(entries)
        self.accepted += len(fresh)
        self.duplicates += len(targets) - len(fresh)
        self.rejected += len(rejected)
        return Counter(targets[index].host for index in fresh.values())

    def _advance(self, entries: Sequence[Entry], duplicates: int, rejected: int) -> None:
        """Account for the entries, as the one that plans the run."""
        read = self.read + len(entries)
        last = {"source": clean_text(entries[-1].source), "line": entries[-1].line}
        if not Run.objects.filter(pk=self.run, planner=self._worker, read=self.read).update(
            read=read,
            duplicates=F("duplicates") + duplicates,
            rejected=F("rejected") + rejected,
            source_offset={**last, **self._offset(read)},
        ):
            raise PlanLost(f"run {self.run} is planned by another process")

    def _is_committed(self, count: int) -> bool:
        """Whether these entries are accounted for already: the database took them and could not say so any more."""
        return Run.objects.filter(pk=self.run, planner=self._worker, read=self.read + count).exists()

    def _keep_rejected(self, rejected: Sequence[Entry]) -> None:
        insert_rows(
            RejectedLine,
            ("run", "source", "line", "value", "reason"),
            [
                (self.run, clean_text(entry.source), entry.line, clean_text(entry.value), clean_text(entry.reason))
                for entry in rejected
            ],
        )

    def _fingerprint(self, target: types.Target) -> bytes:
        return target_fingerprint(target, self._config, self._key)

    def _first_places(self, ids: Sequence[int]) -> dict[int, int]:
        """Return the index of the first occurrence of each target that the run does not have yet."""
        found: dict[int, int] = {}
        for index, pk in enumerate(ids):
            if pk not in self._seen:
                found.setdefault(pk, index)
        return found

    def _target_ids(self, prints: Sequence[bytes], targets: Sequence[types.Target]) -> dict[bytes, int]:
        """Return the row id for each fingerprint, adding the targets that are new."""
        wanted = dict(zip(reversed(prints), reversed(targets), strict=True))
        ids = _ids(list(wanted))
        missing = sorted(mark for mark in wanted if mark not in ids)  # one order for all planners: no deadlock
        insert_rows(
            Target,
            ("fingerprint", "method", "url", "host", "headers", "body"),
            [(mark, *self._columns(wanted[mark])) for mark in missing],
            skip_conflicts=True,
        )
        return ids | _ids(missing)

    def _planned(self, target: types.Target, pk: int, position: int) -> Planned:
        secrets = self._secrets(target) if target.headers else ()
        return Planned(pk, target.host, position, target.label, target.retry, secrets)

    def _secrets(self, target: types.Target) -> tuple[str, ...]:
        return tuple(value for name, value in target.headers if self._config.is_literal_secret(name, value))

    def _columns(self, target: types.Target) -> tuple[Any, ...]:
        if not target.headers:
            return target.method, target.url, target.host, None, target.body
        headers = [
            [name, None if self._config.is_literal_secret(name, value) else value] for name, value in target.headers
        ]
        return target.method, target.url, target.host, for_database(Target, "headers", headers), target.body


def target_fingerprint(target: types.Target, config: FetchConfig, key: bytes) -> bytes:
    """Return what identifies a target in the database; ``key`` is ``derived_key("fingerprint")``."""
    return fingerprint(
        target.method, target.url, target.headers, target.body, secret_names=config.secret_headers, key=key
    )


def _ids(prints: Sequence[bytes]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    with connection.cursor() as cursor:
        for batch in in_batches(prints):
            marks = ", ".join(["%s"] * len(batch))
            cursor.execute(f"SELECT fingerprint, id FROM fetcher_target WHERE fingerprint IN ({marks})", batch)  # noqa: S608
            found.update((bytes(mark), pk) for mark, pk in cursor.fetchall())
    return found
