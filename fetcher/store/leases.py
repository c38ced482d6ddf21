"""Workers, and the lanes that they hold.

A lane is taken by one conditional UPDATE of lanes that nobody holds, or whose holder is gone. Whoever's UPDATE counted
the row has it. Recording checks the same column, so a worker that lost a lane cannot record into it.

A lane is its holder's until another worker of the run finds that holder gone, whatever the clock says in between.
``Watch`` tells who is gone; the row of a worker that is gone is removed (``bury``).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, F, IntegerField, Q, QuerySet, SmallIntegerField, Value, When

from fetcher.machine import this_process
from fetcher.models import OVER, Lane, Worker
from fetcher.models.clock import database_now, database_time
from fetcher.store import trouble
from fetcher.store.sql import lock_rows, locked_for_update

LEASE = timedelta(seconds=60)
"""How long a worker's lanes stay its own without a renewal."""
RENEWAL = 15.0
"""Seconds between renewals."""
SILENCE = 2 / 3
"""The part of a lease without a renewal after which its worker sends nothing: others may be about to take over."""
OBSERVED = 20.0
"""Seconds for which a lease that is over must have been seen unchanged: longer than a renewal takes to come."""
GAP = 5.0
"""Seconds between two looks that count as observed, at most: in between the database may have been away for all."""
CAREFUL = 3
"""Takeovers without a result after which a lane is fetched one target at a time."""
STRIKES = 2
"""Processes that may end at one target."""
_KEPT = timedelta(minutes=10)
"""How long the row of a worker that did not renew its lease is kept at least; it is put back by a renewal."""
_REMOVED_AT_ONCE = 100
"""Rows."""


@dataclass(frozen=True, slots=True)
class HeldLane:
    """A lane as its holder needs to know it. ``suspect`` is the result that it was at, if it is a ``careful`` one.

    ``asked`` is how many seconds ago its hosts were asked by another holder, at least; None if they were not.
    """

    id: int
    careful: bool = False
    suspect: int | None = None
    strikes: int = 0
    asked: float | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a worker holds of a run: the open lanes that it has, its share of them, and how many others there are.

    ``fellows`` counts the other workers that have a share. ``doubtful``: some of the others' lanes are held by a worker
    that did not renew its lease, which is watched for a while before they are taken.
    """

    lanes: Sequence[HeldLane]
    share: int
    elsewhere: int
    fellows: int = 0
    doubtful: bool = False


class Watch:
    """Tells which workers are gone.

    Those whose process has ended, where it was one of this machine; and those that did not renew their lease in time.
    A clock may have been set meanwhile, so the second kind is believed only when this watch has itself seen the same
    lease for ``OBSERVED`` seconds of a clock that cannot be set (``clock``, monotonic seconds). Keep one watch for as
    long as the process lives: what it has seen outlasts a slice.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at = clock()
        self._seen: dict[int, tuple[datetime, float]] = {}
        self.doubted: list[int] = []
        """Workers whose lease was over at the last look, and that are not believed gone yet."""

    def gone(self, *, but: int) -> dict[int, datetime]:
        """Return the workers that are gone, by id the lease that was seen; ``but`` is the worker that asks."""
        now, moment = database_now(), self._clock()
        observed, self._looked_at = min(GAP, moment - self._looked_at), moment
        workers = dict(Worker.objects.exclude(pk=but).values_list("id", "expires_at"))
        ended = set(Worker.objects.ended())
        self._seen = {
            pk: (expires, seen[1] + observed) if (seen := self._seen.get(pk)) and seen[0] == expires else (expires, 0.0)
            for pk, expires in workers.items()
        }
        over = [pk for pk, expires in workers.items() if pk not in ended and _is_over(expires, now)]
        self.doubted = [pk for pk in over if self._seen[pk][1] < OBSERVED]
        return {pk: workers[pk] for pk in (*workers.keys() & ended, *over) if pk not in self.doubted}


def _is_over(expires: datetime, now: datetime) -> bool:
    """Whether a lease is over; one that goes on for longer than any can was made before the clock was set back."""
    return not now <= expires <= now + 2 * LEASE


def register_worker(run: int | None = None, *, sends: bool = True) -> int:
    """Add a row for this process, which works on a run, and return its id. Without ``sends`` it leases no lane."""
    remove_old_workers()
    process, now = this_process(), database_now()
    worker = Worker.objects.create(
        token=uuid.uuid4(),
        hostname=process.hostname,
        boot_id=process.boot,
        pid=process.pid,
        process_started=process.started,
        run_id=run,
        sends=sends,
        started_at=now,
        expires_at=now + LEASE,
    )
    return worker.pk


def remove_old_workers() -> None:
    """Remove the rows of workers that did not renew their lease for a while and hold nothing of a run that goes on."""
    old = Worker.objects.filter(expires_at__lt=database_time() - _KEPT)
    needed = Lane.objects.still_open().filter(worker__isnull=False).exclude(run__state__in=OVER)
    for pk in old.exclude(id__in=needed.values("worker")).values_list("id", flat=True)[:_REMOVED_AT_ONCE]:
        let_go(pk)


def renew(worker: int, run: int | None = None, *, sends: bool = True) -> None:
    """Renew the lease of every lane that the worker holds.

    A row that was removed, because the worker did not renew its lease for a while, is put back.
    """
    now = database_now()
    if Worker.objects.filter(pk=worker).update(expires_at=now + LEASE):
        return
    process = this_process()
    Worker.objects.create(
        pk=worker, token=uuid.uuid4(), hostname=process.hostname, boot_id=process.boot, pid=process.pid,
        process_started=process.started, run_id=run, sends=sends, started_at=now, expires_at=now + LEASE,
    )  # fmt: skip


def hold_lanes(run: int, worker: int, watch: Watch | None = None) -> Holding:
    """Take free lanes of a run up to the worker's share of those that are open, and return what it holds now.

    The share is an equal one among the workers that are there for the run. A lane is open while targets of it have no
    result. Of a lane taken from a worker that is gone the takeover is counted, from one on if there were results since
    the last. The holder's own lanes are returned even beyond the share.
    """
    watch = watch or Watch()
    gone = watch.gone(but=worker)
    for dead in Worker.objects.of_run(run).filter(id__in=gone).values_list("id", flat=True):
        bury(dead, gone[dead])
    lanes = Lane.objects.filter(run=run)
    still_open = lanes.still_open()
    mine = still_open.filter(worker=worker).count()
    total = still_open.count()
    fellows = Worker.objects.of_run(run).filter(sends=True).exclude(id__in=[*gone, worker]).count()
    share = -(-total // (1 + fellows))
    free = still_open.filter(worker=None)
    if mine < share and free.exists():
        if not Worker.objects.filter(pk=worker).exists():  # removed while it slept, or a clock was set
            renew(worker, run)
        mine += _take(free, worker, share - mine)
    held = lanes.filter(worker=worker).order_by("number", "part")
    now = database_now()
    rows = held.still_open().values_list("id", "takeovers", "suspect", "strikes", "asked_at")
    return Holding(
        [
            HeldLane(
                pk,
                takeovers >= CAREFUL,
                suspect,
                strikes,
                None if asked_at is None else (now - asked_at).total_seconds(),
            )
            for pk, takeovers, suspect, strikes, asked_at in rows
        ],
        share,
        total - mine,
        fellows,
        bool(watch.doubted) and still_open.filter(worker__in=watch.doubted).exists(),
    )


def lease_lanes(run: int, worker: int, watch: Watch | None = None) -> list[int]:
    """Do as ``hold_lanes`` and return the lanes' ids only."""
    return [lane.id for lane in hold_lanes(run, worker, watch).lanes]


def _take(free: QuerySet[Lane], worker: int, count: int) -> int:
    """Take up to ``count`` lanes and return how many there were.

    Rows that somebody else is just taking are passed over, and the others locked in the order in which recording does.
    """
    with transaction.atomic():
        ids = list(locked_for_update(free.order_by("id")).values_list("id", flat=True)[:count])
        # The conditions are asked again of the locked row: what was read before may have changed.
        return free.filter(id__in=ids).update(worker=worker)


def bury(worker: int, expires: datetime | None = None) -> bool:
    """Remove a worker that is gone and free its lanes, each as one that was lost: its takeovers and strikes count.

    ``expires`` is the lease that was seen: where it was renewed since nothing is done. Returns whether the row was
    removed by this call. A run of the cluster has it counted as a slice that failed.
    """
    with transaction.atomic():
        # In the order in which planning and recording lock them: no deadlock between the two.
        lock_rows(Lane, Lane.objects.filter(worker=worker).values_list("id", flat=True))
        results = F("succeeded") + F("not_modified") + F("failed") + F("skipped")
        Lane.objects.filter(worker=worker).update(
            takeovers=Case(
                When(takeovers__gt=0, taken_with=results, then=F("takeovers") + 1),
                default=Value(1),
                output_field=IntegerField(),
            ),
            strikes=Case(
                When(suspect__isnull=False, then=F("strikes") + 1),
                default=F("strikes"),
                output_field=SmallIntegerField(),
            ),
            taken_with=results,
            asked_at=database_now(),
            worker=None,
        )
        row = (
            Worker.objects.filter(pk=worker)
            if expires is None
            else Worker.objects.filter(pk=worker, expires_at=expires)
        )
        found = row.values_list("run_id", "hostname", "pid").first()
        if found is None or not row.delete()[0]:
            transaction.set_rollback(True)
            return False
        run, hostname, pid = found
        if run is not None and expires is not None:
            trouble.note(run, f"its worker {hostname}:{pid} ended without a word")
    return True


def give_back(worker: int, lanes: Sequence[int], *, asked: Sequence[int] = ()) -> None:
    """Give up lanes that others have more time for; of those in ``asked`` hosts were asked while they were held."""
    held = Lane.objects.filter(id__in=lanes, worker=worker)
    if asked:
        held.filter(id__in=asked).update(worker=None, asked_at=database_now())
    held.update(worker=None)


def accuse(worker: int, lane: int, result: int) -> None:
    """Note which result a careful lane is at, before anything is sent for it."""
    another = Q(suspect__isnull=True) | ~Q(suspect=result)
    Lane.objects.filter(another, pk=lane, worker=worker).update(suspect=result, strikes=0)


def acquit(shards: Sequence[int]) -> None:
    """Note that lanes got through these shards: their takeovers are forgotten."""
    lanes = Lane.objects.filter(shards__in=shards).exclude(takeovers=0, suspect=None)
    Lane.objects.filter(id__in=lanes.values("id")).update(takeovers=0, suspect=None, strikes=0)


def let_go(worker: int) -> None:
    """Give up all lanes of a worker and remove its row."""
    with transaction.atomic():
        # In the order in which planning and recording lock them: no deadlock between the two.
        lock_rows(Lane, Lane.objects.filter(worker=worker).values_list("id", flat=True))
        Lane.objects.filter(worker=worker).update(worker=None, asked_at=database_now())
    Worker.objects.filter(pk=worker).delete()
