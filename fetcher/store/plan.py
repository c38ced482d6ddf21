"""A source's entries to targets, lanes and shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from django.db import transaction
from django.db.models import F

from fetcher.database_errors import is_outage
from fetcher.engine import types
from fetcher.engine.config import FetchConfig
from fetcher.engine.defects import report_defect
from fetcher.engine.sensitive import secret_headers
from fetcher.engine.urls import fingerprint
from fetcher.headers import dump_headers, secret_values
from fetcher.models import RejectedLine, Run, Shard, Target
from fetcher.secrets import derived_key
from fetcher.sources import Entry
from fetcher.sources.entry import redacted
from fetcher.store.lanes import PlanLost, Planned, ShardWriter
from fetcher.store.shards import decode_payload
from fetcher.store.sql import for_database, insert_rows, rows_among
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


class Step(NamedTuple):
    """What one call of ``add`` accounts for: entries after ``read`` others, and what became of them."""

    read: int
    entries: Sequence[Entry]
    duplicates: int
    rejected: Sequence[Entry]


class Accounted(NamedTuple):
    """Counts of entries: those that were read, and those of them that are duplicates or no targets."""

    read: int = 0
    duplicates: int = 0
    rejected: int = 0


class Destination(Protocol):
    """Where a plan goes: the lanes and shards of a run, or a list that is kept for many runs."""

    def accounted(self) -> Accounted:
        """Return what was planned before, by another process."""

    def payloads(self) -> Iterable[bytes]:
        """Yield what is stored of the shards so far."""

    def write(self, planned: Sequence[Planned]) -> None:
        """Write targets, in their order, into new shards; inside of a transaction."""

    def advance(self, step: Step) -> None:
        """Keep the rejected lines and account for the entries, in the same transaction. Raises PlanLost."""

    def is_committed(self, step: Step) -> bool:
        """Whether the step is accounted for already: the database took it and could not say so any more."""


class RunPlan:
    """A run as a destination. ``worker`` is its planner; ``offset`` gives what is kept beside how many were read."""

    def __init__(self, run: int, worker: int | None, split: int, offset: Callable[[int], dict[str, Any]]) -> None:
        self._run = run
        self._worker = worker
        self._offset = offset
        self._shards = ShardWriter(run, split)

    def accounted(self) -> Accounted:
        """Return what the run's row says."""
        return Accounted(**Run.objects.values("read", "duplicates", "rejected").get(pk=self._run))

    def payloads(self) -> Iterable[bytes]:
        """Yield the run's shards."""
        stored = Shard.objects.filter(run=self._run).values_list("payload", flat=True)
        return map(bytes, stored.iterator(chunk_size=200))

    def write(self, planned: Sequence[Planned]) -> None:
        """Write shards, and open lanes as hosts need them."""
        self._shards.write(planned)

    def advance(self, step: Step) -> None:
        """Account for the entries, as the one that plans the run."""
        self._keep_rejected(step.rejected)
        read = step.read + len(step.entries)
        last = {"source": clean_text(step.entries[-1].source), "line": step.entries[-1].line}
        if not Run.objects.filter(pk=self._run, planner=self._worker, read=step.read).update(
            read=read,
            duplicates=F("duplicates") + step.duplicates,
            rejected=F("rejected") + len(step.rejected),
            source_offset={**last, **self._offset(read)},
        ):
            raise PlanLost(f"run {self._run} is planned by another process")

    def is_committed(self, step: Step) -> bool:
        """Whether the run's row says so."""
        read = step.read + len(step.entries)
        return Run.objects.filter(pk=self._run, planner=self._worker, read=read).exists()

    def _keep_rejected(self, rejected: Sequence[Entry]) -> None:
        rows = [(self._run, *rejected_columns(entry)) for entry in rejected]
        insert_rows(RejectedLine, ("run", "source", "line", "value", "reason"), rows)


class EntryPlanner:
    """Plans entries into a destination: what a call of ``add`` took is accepted when it returns.

    Where ``add`` raises it may be called again with the same entries, and goes on where it was; also where the database
    took some and could not say so any more. ``refused`` are those of the last call that the database refused, as they
    were rejected.
    """

    def __init__(self, destination: Destination, config: FetchConfig) -> None:
        self._destination = destination
        self._config = config
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self.read = 0
        self.refused: list[Entry] = []
        self._begun: Sequence[Entry] = ()
        self._parts: list[Sequence[Entry]] = []
        self._hosts: Counter[str] = Counter()
        self._seen = IdSet()
        self._key = derived_key("fingerprint")

    def load(self) -> None:
        """Take up what was planned before, by another process."""
        self.read, self.duplicates, self.rejected = self._destination.accounted()
        self.accepted = 0
        if not self.read:
            return
        for payload in self._destination.payloads():
            for pk in decode_payload(payload).targets:
                self._seen.add(pk)
                self.accepted += 1

    def add(self, entries: Sequence[Entry]) -> Counter[str]:
        """Accept the targets among the entries and keep the rejected lines; the source's offset goes with them.

        Mostly this is one transaction. One that is refused because of an entry is split until that one is found, which
        is rejected. Returns how many targets of each host were accepted. Raises PlanLost, and DatabaseError for what is
        no entry's fault (``is_outage``).
        """
        if not entries:
            return Counter()
        if self._begun is not entries:
            self._begun, self._parts, self._hosts, self.refused = entries, [entries], Counter(), []
        while self._parts:
            try:
                hosts = self._add(self._parts[-1])
            except PlanLost:
                raise
            except Exception as exc:
                if is_outage(exc):
                    raise
                self._parts[-1:] = self._split(self._parts[-1], exc)
            else:
                self._parts.pop()
                self._hosts.update(hosts)
        hosts, self._begun, self._hosts = self._hosts, (), Counter()
        return hosts

    def _split(self, part: Sequence[Entry], error: Exception) -> list[Sequence[Entry]]:
        """Return both halves of a part, the first at the end, or an entry's rejection. Raises where that failed."""
        if len(part) > 1:
            return [part[len(part) // 2 :], part[: len(part) // 2]]
        [entry] = part
        if entry in self.refused:
            raise error
        value = "" if entry.target is None else redacted(entry.target.url)
        reason = f"it cannot be stored: {report_defect(error, 'planning')}"
        self.refused.append(Entry(entry.source, entry.line, value=value, reason=reason))
        return [self.refused[-1:]]

    def _add(self, entries: Sequence[Entry]) -> Counter[str]:
        """Do so in one transaction; where it raises nothing was taken, neither in the database nor here."""
        targets = [entry.target for entry in entries if entry.target is not None]
        step = Step(self.read, entries, 0, [entry for entry in entries if entry.target is None])
        prints = [self._fingerprint(target) for target in targets]
        first = self.read - self.rejected
        fresh: dict[int, int] = {}
        try:
            with transaction.atomic():
                ids = self._target_ids(prints, targets)
                fresh = self._first_places([ids[mark] for mark in prints])
                step = step._replace(duplicates=len(targets) - len(fresh))
                self._destination.write(
                    [self._planned(targets[index], pk, first + index) for pk, index in fresh.items()]
                )
                # After the lanes, as whoever gives up a lane and ends its run locks them: no deadlock between the two.
                self._destination.advance(step)
        except PlanLost:
            if not self._destination.is_committed(step):
                raise
        # Only now: what a transaction that failed has noted would be taken for known the next time.
        for pk in fresh:
            self._seen.add(pk)
        self.read += len(entries)
        self.accepted += len(fresh)
        self.duplicates += step.duplicates
        self.rejected += len(step.rejected)
        return Counter(targets[index].host for index in fresh.values())

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
        # Those with a body may be removed meanwhile (fetcher.store.request_bodies), unless they are held.
        lock = "FOR KEY SHARE" if any(target.body is not None for target in targets) else ""
        ids = _ids(list(wanted), lock)
        missing = sorted(mark for mark in wanted if mark not in ids)  # one order for all planners: no deadlock
        insert_rows(
            Target,
            ("fingerprint", "method", "url", "host", "headers", "body"),
            [(mark, *self._columns(wanted[mark])) for mark in missing],
            skip_conflicts=True,
        )
        return ids | _ids(missing, lock)

    def _planned(self, target: types.Target, pk: int, position: int) -> Planned:
        secrets = secret_values(self._config, target.headers) if target.headers else ()
        return Planned(pk, target.host, position, target.label, target.retry, secrets)

    def _columns(self, target: types.Target) -> tuple[Any, ...]:
        if not target.headers:
            return target.method, target.url, target.host, None, target.body
        headers = for_database(Target, "headers", dump_headers(self._config, target.headers))
        return target.method, target.url, target.host, headers, target.body


class Planner(EntryPlanner):
    """Plans one run.

    ``worker`` is the run's planner. ``split`` spreads each host over so many lanes. ``offset`` gives what is kept
    beside the number of entries that are accounted for.
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
        super().__init__(RunPlan(run, worker, split, offset), config or FetchConfig())
        self.run = run


def rejected_columns(entry: Entry) -> tuple[str, int, str, str]:
    """Return source, line, value and reason of a rejected line as the database takes them."""
    return clean_text(entry.source), entry.line, clean_text(entry.value), clean_text(entry.reason)


def target_fingerprint(target: types.Target, config: FetchConfig, key: bytes) -> bytes:
    """Return what identifies a target in the database; ``key`` is ``derived_key("fingerprint")``."""
    return fingerprint(
        target.method,
        target.url,
        target.headers,
        target.body,
        is_secret=secret_headers(config.secret_headers).__contains__,
        key=key,
    )


def _ids(prints: Sequence[bytes], lock: str) -> dict[bytes, int]:
    return dict(rows_among("SELECT fingerprint, id FROM fetcher_target WHERE fingerprint {among}", prints, lock=lock))
