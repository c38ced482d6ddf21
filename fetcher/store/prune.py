"""Old runs are removed, and what only they needed. Safe beside a run in progress, and to repeat after a crash.

Order: results and, in the same transaction, the representations that only they had; then shards; then the run with its
lanes and rejected lines. Bodies that no representation has any more come last, their files after their rows. Each step
is a short transaction and leaves what the next call completes.

A run in progress keeps in memory what it knows of a target's previous good result, until it records the next one. Three
things keep that from vanishing:

* While any run is in progress, a good result stays unless a newer one was there before the oldest of these runs began:
  none of them can have read it. Runs cannot begin in the middle of such a transaction (on PostgreSQL by a table lock).
* Recording holds the representations and bodies that it builds on (``keep_rows``); they are locked here before it is
  decided that nobody has them.
* A body's file is written and removed under a lock on its name.

Targets stay: finding out that nothing needs one costs a look into every shard, and fetching the URL again needs it. But
those with a body go (``fetcher.store.request_bodies``): it may hold a password.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.files.storage import Storage, storages
from django.db import connection, transaction
from django.db.models import Exists, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from fetcher.conf import fetcher_settings
from fetcher.models import (
    GOOD,
    PLACES,
    Body,
    Lane,
    RejectedLine,
    Representation,
    Result,
    Run,
    RunQuerySet,
    RunState,
    Shard,
)
from fetcher.models.clock import database_now
from fetcher.store import waiting
from fetcher.store.bodies import FOLDER
from fetcher.store.sql import delete_rows, in_batches, lock_name, lock_rows

GRACE = timedelta(hours=1)
"""How long after its lease a silent worker's run counts as in progress: a machine that slept may wake up."""
_SKEW = timedelta(minutes=1)
"""By which the clocks of two machines may differ."""
_SHARDS = 4
"""Shards in one transaction: at most 2,000 results."""
_BATCH = 1000
_SHA = re.compile(r"([0-9a-f]{64})\b.*")


@dataclass(slots=True)
class Pruned:
    """What was removed, in rows; ``held`` results stay because a run in progress may build upon them."""

    runs: int = 0
    results: int = 0
    representations: int = 0
    bodies: int = 0
    files: int = 0
    targets: int = 0
    held: int = 0


Report = Callable[[Pruned], None]


def prunable(
    *, keep: int | None, before: datetime | None, now: datetime | None = None, job: int | None = None
) -> list[int]:
    """Return the ids of the runs to remove, the oldest first; of one ``job`` only, where it is given.

    ``keep`` spares that many of the newest, ``before`` those that ended (or, unknown, began) at that time or later; a
    run goes only where both agree. Pending runs and those in progress are neither counted nor returned.
    """
    over = _over(now or database_now()).annotate(ended=Coalesce("finished_at", "started_at", "created_at"))
    if job is not None:
        over = over.filter(job_id=job)
    # One query: a run that ends meanwhile would be too new to be among the newest, and old enough to go.
    rows = list(over.order_by("-id").values_list("id", "ended"))
    return sorted(pk for pk, ended in rows[keep or 0 :] if before is None or ended < before)


def prune_run(run: int, pruned: Pruned, report: Report = lambda pruned: None) -> bool:
    """Remove a run, batch by batch, and return whether all of it is gone; counts are added to ``pruned``.

    It is left alone where it is in progress again, and stays in part where results are held.
    """
    if not _close(run):
        return False
    complete, after = True, 0
    while shards := list(
        Shard.objects.filter(run=run, id__gt=after).order_by("id").values_list("id", flat=True)[:_SHARDS]
    ):
        held = _prune_shards(run, shards, pruned)
        if held is None:
            return False
        complete = complete and not held
        pruned.held += held
        after = shards[-1]
        report(pruned)
    if not complete:
        return False
    while lines := list(RejectedLine.objects.filter(run=run).values_list("id", flat=True)[:_BATCH]):
        delete_rows(RejectedLine, lines)
    # SQLite would look for the run in all results, which are in no order of runs. There are none: the shards are gone.
    connection.disable_constraint_checking()
    try:
        with transaction.atomic():
            if _in_use(run) or Shard.objects.filter(run=run).exists():
                return False
            Run.objects.filter(parent=run).update(parent=None)
            waiting.forget(run)
            delete_rows(Lane, list(Lane.objects.filter(run=run).values_list("id", flat=True)))
            pruned.runs += delete_rows(Run, [run])
    finally:
        connection.enable_constraint_checking()
    report(pruned)
    return True


def prune_bodies(pruned: Pruned, report: Report = lambda pruned: None) -> None:
    """Remove the bodies that no representation has, then their files, then files that no body has.

    The last are left by a crash between the two, or while recording. Raises OSError where a file cannot be removed.
    """
    storage = storages[fetcher_settings().body_storage]
    after = 0
    while ids := list(Body.objects.filter(id__gt=after).order_by("id").values_list("id", flat=True)[:_BATCH]):
        files = _prune_bodies(ids, pruned) if _unused().filter(id__in=ids).exists() else []
        for file in files:
            pruned.files += _remove_file(storage, file)
        after = ids[-1]
        report(pruned)
    for batch in _batches(_files(storage)):
        known = set(Body.objects.filter(file__gt="", sha256__in=map(_sha_of, batch)).values_list("file", flat=True))
        for file in batch:
            if file not in known:
                pruned.files += _remove_file(storage, file)
        report(pruned)


def free_bytes() -> int | None:
    """Return how many bytes of an SQLite file are unused; None for databases that look after that themselves."""
    if connection.vendor != "sqlite":
        return None
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA freelist_count")
        pages = cursor.fetchone()[0]
        cursor.execute("PRAGMA page_size")
        return int(pages * cursor.fetchone()[0])


def in_progress(now: datetime | None = None) -> bool:
    """Whether any run is in progress, or silent for less than GRACE."""
    return Run.objects.alive((now or database_now()) - GRACE).exists()


def vacuum() -> None:
    """Write an SQLite file anew without what is unused. Nobody else can write meanwhile. Raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _over(now: datetime) -> RunQuerySet:
    alive = Run.objects.alive(now - GRACE)
    read = alive.filter(parent__isnull=False, planned_at__isnull=True)  # their failures, to be fetched again
    over = Run.objects.exclude(state=RunState.PENDING).exclude(id__in=alive.values("id"))
    return over.exclude(id__in=read.values("parent"))


def _in_use(run: int) -> bool:
    return Run.objects.filter(pk=run, state__in=[RunState.PENDING, RunState.RUNNING]).exists()


def _close(run: int) -> bool:
    """Take a run out of its workers' hands; False where it is in progress."""
    with transaction.atomic():
        row = Run.objects.select_for_update().filter(pk=run).first()
        if row is None or not _over(database_now()).filter(pk=run).exists():
            return False
        # A worker that wakes up after all finds that it lost its lanes, and records nothing.
        Lane.objects.filter(run=run, worker__isnull=False).update(worker=None)
        if row.state == RunState.RUNNING:
            Run.objects.filter(pk=run).update(state=RunState.INTERRUPTED)
    return True


def _prune_shards(run: int, shards: Sequence[int], pruned: Pruned) -> int | None:
    """Remove what can be removed of these shards; return how many results are held, None where the run is in use."""
    within = Q()
    for shard in shards:
        within |= Q(id__gte=shard * PLACES, id__lt=(shard + 1) * PLACES)
    with transaction.atomic():
        _hold_runs()
        if _in_use(run):
            return None
        results = Result.objects.filter(within, run=run)
        held = _held(run, results)
        going = list(results.exclude(id__in=held).values_list("id", flat=True))
        orphans = _orphans(run, going)
        pruned.results += delete_rows(Result, going)
        pruned.representations += delete_rows(Representation, orphans)
        kept = {number // PLACES for number in held}
        delete_rows(Shard, [shard for shard in shards if shard not in kept])
    return len(held)


def _hold_runs() -> None:
    """Keep runs from beginning until the transaction is over."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {connection.ops.quote_name(Run._meta.db_table)} IN SHARE ROW EXCLUSIVE MODE")


def _held(run: int, results: QuerySet[Result]) -> list[int]:
    """Return the ids of good results that a run in progress may have read, and whose representation nobody shares."""
    oldest = Run.objects.alive(database_now() - GRACE).aggregate(began=Min("started_at"))["began"]
    if oldest is None:
        return []
    newer = Result.objects.filter(
        target=OuterRef("target"), run__gt=run, status__in=GOOD, run__finished_at__lt=oldest - _SKEW
    )
    good = results.filter(status__in=GOOD, representation__isnull=False)
    return list(good.filter(~Exists(_sharing(run)), ~Exists(newer)).values_list("id", flat=True))


def _orphans(run: int, results: Sequence[int]) -> list[int]:
    """Return the representations that only these results have, locked so that nobody else begins to use them."""
    found: list[int] = []
    for batch in in_batches(results):
        alone = (
            Result.objects.filter(id__in=batch, representation__isnull=False)
            .filter(~Exists(_sharing(run)))
            .values_list("representation_id", flat=True)
        )
        lock_rows(Representation, list(alone))
        # Asked again: whoever had a lock before has recorded by now.
        found += alone.all()
    return found


def _sharing(run: int) -> QuerySet[Result]:
    """Results of other runs that have the same representation; only those of the same target can."""
    return Result.objects.filter(target=OuterRef("target"), representation=OuterRef("representation")).exclude(run=run)


def _unused() -> QuerySet[Body]:
    return Body.objects.filter(~Exists(Representation.objects.filter(body=OuterRef("pk"))))


def _prune_bodies(ids: Sequence[int], pruned: Pruned) -> list[str]:
    """Remove the unused ones of these bodies and return the names of their files."""
    with transaction.atomic():
        # One that is locked is just being recorded again: it has a use, or the next call finds it.
        unused = _unused().filter(id__in=ids)
        locked = list(unused.select_for_update(skip_locked=True, of=("self",)).values_list("id", flat=True))
        rows = list(_unused().filter(id__in=locked).values_list("id", "file"))
        pruned.bodies += delete_rows(Body, [pk for pk, _ in rows])
    return [file for _, file in rows if file]


def _remove_file(storage: Storage, file: str) -> int:
    """Remove a file unless a body has it (again); returns how many were removed."""
    sha = _sha_of(file)
    with transaction.atomic():
        lock_name(sha.hex())
        if Body.objects.filter(sha256=sha, file=file).exists() or not storage.exists(file):
            return 0
        storage.delete(file)
    return 1


def _sha_of(file: str) -> bytes:
    match = _SHA.match(file.rpartition("/")[2])
    return bytes.fromhex(match[1]) if match else b""


def _files(storage: Storage) -> Iterator[str]:
    """Yield the names of stored bodies; nothing for a storage that cannot list."""
    for first in _listed(storage, FOLDER)[0]:
        for second in _listed(storage, f"{FOLDER}/{first}")[0]:
            folder = f"{FOLDER}/{first}/{second}"
            yield from (f"{folder}/{name}" for name in _listed(storage, folder)[1] if _SHA.match(name))


def _listed(storage: Storage, folder: str) -> tuple[list[str], list[str]]:
    try:
        return storage.listdir(folder)
    except (NotImplementedError, FileNotFoundError, NotADirectoryError):
        return [], []


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(names, 500)):
        yield batch
