"""A job's list of targets: imported as a whole, replaced as a whole, exported as JSON lines."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice

import msgspec
from django.db import DatabaseError
from django.db.models import F
from django.utils import timezone

from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig
from fetcher.engine.sensitive import MASK
from fetcher.headers import load_headers
from fetcher.models import SHARD_SIZE, Target
from fetcher.options import RunOptions
from fetcher.shown import shown_value
from fetcher.sources import Entry, with_defaults
from fetcher.store.lanes import PlanLost, Planned, by_lane, payload_of
from fetcher.store.plan import Accounted, EntryPlanner, Step, rejected_columns
from fetcher.store.shards import decode_payload, encode_payload
from fetcher.store.sql import in_batches, insert_rows
from fetcher.texts import clean_text
from jobs.models import JobRejectedLine, JobShard, TargetList

BATCH = 5_000
"""Entries of an import in one transaction."""
LEFT_BEHIND = timedelta(days=1)
"""After this a list that no job has is no import in progress, but one that was killed."""
_ROWS = 200
"""Rows that are removed in one transaction."""


class ListPlan:
    """A list as a planner's destination; ``split`` lanes share each host."""

    def __init__(self, target_list: int, split: int = 1) -> None:
        self._list = target_list
        self._split = split

    def accounted(self) -> Accounted:
        """Return what the list's row says."""
        return Accounted(**TargetList.objects.values("read", "duplicates", "rejected").get(pk=self._list))

    def payloads(self) -> Iterable[bytes]:
        """Yield the list's shards."""
        stored = JobShard.objects.filter(list=self._list).values_list("payload", flat=True)
        return map(bytes, stored.iterator(chunk_size=200))

    def write(self, planned: Sequence[Planned]) -> None:
        """Write shards."""
        rows = [
            (self._list, *lane, len(part), encode_payload(payload_of(part)))
            for lane, items in sorted(by_lane(planned, self._split).items())
            for part in in_batches(items, SHARD_SIZE)
        ]
        insert_rows(JobShard, ("list", "number", "part", "size", "payload"), rows)
        found = TargetList.objects.filter(pk=self._list)
        found.update(size=F("size") + len(planned))
        if any(item.secrets for item in planned):
            found.update(secrets=True)

    def advance(self, step: Step) -> None:
        """Keep the rejected lines and account for the entries."""
        rows = [(self._list, *rejected_columns(entry)) for entry in step.rejected]
        insert_rows(JobRejectedLine, ("list", "source", "line", "value", "reason"), rows)
        if not TargetList.objects.filter(pk=self._list, read=step.read).update(
            read=step.read + len(step.entries),
            duplicates=F("duplicates") + step.duplicates,
            rejected=F("rejected") + len(step.rejected),
        ):
            raise PlanLost(f"list {self._list} is imported by another process")

    def is_committed(self, step: Step) -> bool:
        """Whether the list's row says so."""
        return TargetList.objects.filter(pk=self._list, read=step.read + len(step.entries)).exists()


@contextlib.contextmanager
def imported(
    entries: Iterable[Entry],
    config: FetchConfig,
    options: RunOptions,
    *,
    source: str,
    rejected: Callable[[Entry], None] = lambda entry: None,
) -> Iterator[TargetList]:
    """Import entries into a new list, batch by batch, for the block to give to a job; where that fails it is removed.

    A reader sees the old list until the block has put the new one into its place. Raises SourceError, DatabaseError,
    DiskNearlyFull.
    """
    _remove_left_behind()
    disk = DiskWatch.of_run(keeps_bodies=False)
    disk.check()
    found = TargetList.objects.create(source=clean_text(source))
    try:
        planner = EntryPlanner(ListPlan(found.pk, options.split_hosts), config)
        reading = iter(with_defaults(iter(entries), method=options.method, data=options.data))
        while batch := list(islice(reading, BATCH)):
            disk.look()
            for entry in batch:
                if entry.target is None:
                    rejected(entry)
            planner.add(batch)
            for entry in planner.refused:
                rejected(entry)
        found.refresh_from_db()
        yield found
    except BaseException:
        with contextlib.suppress(DatabaseError):  # the first error is the one to tell; the next import removes it
            remove(found.pk)
        raise


def remove(target_list: int) -> None:
    """Remove a list that no job has (any more), in short transactions."""
    for model in (JobShard, JobRejectedLine):
        rows = model.objects.filter(list=target_list).order_by("id").values_list("id", flat=True)
        while ids := list(rows[:_ROWS]):
            model.objects.filter(id__in=ids).delete()
    TargetList.objects.filter(pk=target_list).delete()


def _remove_left_behind() -> None:
    lists = TargetList.objects.filter(job__isnull=True, created_at__lt=timezone.now() - LEFT_BEHIND)
    for pk in lists.values_list("id", flat=True):
        remove(pk)


class ExportedTarget(msgspec.Struct, omit_defaults=True):
    """A line of an export, as an import reads it. Headers whose values are secret are left out."""

    url: str
    method: str
    headers: list[tuple[str, str]] | None = None
    body: str | None = None
    label: str | None = None
    retry: bool = False


class Exported(msgspec.Struct, frozen=True):
    """A target of a list; ``secret`` and ``binary`` say that a header, or a body that is no text, was left out."""

    target: ExportedTarget
    secret: bool
    binary: bool


def export_targets(target_list: int) -> Iterator[Exported]:
    """Yield a list's targets in the order in which they were imported, in bounded memory."""
    lanes = JobShard.objects.filter(list=target_list).order_by().values_list("number", "part").distinct()
    places = heapq.merge(*(_lane(target_list, number, part) for number, part in lanes))
    while batch := list(islice(places, SHARD_SIZE)):
        rows = Target.objects.in_bulk([target for _, target, _, _ in batch])
        for _, target, label, retry in batch:
            yield _exported(rows[target], label or None, retry=retry)


def _lane(target_list: int, number: int, part: int) -> Iterator[tuple[int, int, str, bool]]:
    """Yield position, target, label and retry of a lane's targets, one shard of them in memory."""
    after = 0
    shards = JobShard.objects.filter(list=target_list, number=number, part=part).order_by("id")
    while row := shards.filter(id__gt=after).values_list("id", "payload").first():
        after, payload = row[0], decode_payload(bytes(row[1]))
        labels = payload.labels or [None] * len(payload.targets)
        retries = frozenset(payload.retries or ())
        for place, (target, position, label) in enumerate(zip(payload.targets, payload.positions, labels, strict=True)):
            yield position, target, label or "", place in retries


def _exported(target: Target, label: str | None, *, retry: bool) -> Exported:
    headers = [(name, shown_value(name, value)) for name, value in load_headers(target.headers)]
    shown = [(name, text) for name, text in headers if text != MASK]
    body = None
    with contextlib.suppress(UnicodeDecodeError):
        body = None if target.body is None else bytes(target.body).decode()
    return Exported(
        ExportedTarget(target.url, target.method, shown or None, body, label, retry),
        secret=len(shown) < len(headers),
        binary=body is None and target.body is not None,
    )
