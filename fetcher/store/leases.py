"""Workers, and the lanes that they hold.

A lane is taken by one conditional UPDATE of lanes that nobody holds, or whose holder is gone. Whoever's UPDATE counted
the row has it. Recording checks the same column, so a worker that lost a lane cannot record into it.

A lane is its holder's until somebody else took it, whatever the clock says in between. ``Watch`` tells who is gone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import (
    BigIntegerField,
    Case,
    DateTimeField,
    F,
    IntegerField,
    Q,
    QuerySet,
    SmallIntegerField,
    Value,
    When,
)
from django.utils import timezone

from fetcher.machine import this_process
from fetcher.models import Lane, Worker
from fetcher.store.sql import lock_rows, locked_for_update

LEASE = timedelta(seconds=60)
"""How long a worker's lanes stay its own without a renewal."""
RENEWAL = 15.0
"""Seconds between renewals."""
SILENCE = 2 / 3
"""The part of a lease without a renewal after which its worker sends nothing: others may be about to take over."""
OBSERVED = 20.0
"""Seconds for which a lease that is over must have been seen unchanged: longer than a renewal takes to come."""
CAREFUL = 3
"""Takeovers without a result after which a lane is fetched one target at a time."""
STRIKES = 2
"""Processes that may end at one target."""
_FORGOTTEN = timedelta(days=1)


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
    lease for ``OBSERVED`` seconds of a clock that cannot be set (``clock``, monotonic seconds).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[datetime, float]] = {}
        self.doubted: list[int] = []
        """Workers whose lease was over at the last look, and that are not believed gone yet."""

    def gone(self, *, but: int) -> list[int]:
        """Return the ids of workers that are gone; ``but`` is the worker that asks."""
        now, moment = database_now(), self._clock()
        workers = dict(Worker.objects.exclude(pk=but).values_list("id", "expires_at"))
        ended = set(Worker.objects.ended())
        self._seen = {
            pk: seen if (seen := self._seen.get(pk)) and seen[0] == expires else (expires, moment)
            for pk, expires in workers.items()
        }
        over = [pk for pk, expires in workers.items() if pk not in ended and _is_over(expires, now)]
        self.doubted = [pk for pk in over if moment - self._seen[pk][1] < OBSERVED]
        return [*(pk for pk in workers if pk in ended), *(pk for pk in over if pk not in self.doubted)]


def _is_over(expires: datetime, now: datetime) -> bool:
    """Whether a lease is over; one that goes on for longer than any can was made before the clock was set back."""
    return not now <= expires <= now + 2 * LEASE


def database_now() -> datetime:
    """Return the time by the clock that all workers of a database share."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
            return moment
    return timezone.now()


def register_worker(run: int | None = None, *, sends: bool = True) -> int:
    """Add a row for this process, which works on a run, and return its id. Without ``sends`` it leases no lane."""
    process, now = this_process(), database_now()
    _forget_old(now)
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


def _forget_old(now: datetime) -> None:
    """Remove the rows of workers that ended without letting go and from which everything was taken over."""
    old = Worker.objects.filter(Q(expires_at__lt=now - _FORGOTTEN) | Q(id__in=Worker.objects.ended()))
    Worker.objects.filter(id__in=list(old.filter(lanes__isnull=True).values_list("id", flat=True))).delete()


def renew(worker: int, run: int | None = None, *, sends: bool = True) -> None:
    """Renew the lease of every lane that the worker holds.

    A row that was removed, because nothing was heard of the worker for a day, is put back.
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
    lanes = Lane.objects.filter(run=run)
    still_open = lanes.still_open()
    mine = still_open.filter(worker=worker).count()
    total = still_open.count()
    fellows = Worker.objects.of_run(run).filter(sends=True).exclude(id__in=[*gone, worker]).count()
    share = -(-total // (1 + fellows))
    free = still_open.filter(_free(gone))
    if mine < share and free.exists():
        if not Worker.objects.filter(pk=worker).exists():  # forgotten after a day's sleep, or a clock that was set
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


def _free(gone: Sequence[int]) -> Q:
    return Q(worker__isnull=True) | Q(worker__in=gone)


def _take(free: QuerySet[Lane], worker: int, count: int) -> int:
    """Take up to ``count`` lanes and return how many there were.

    Rows that somebody else is just taking are passed over, and the others locked in the order in which recording does.
    """
    with transaction.atomic():
        ids = list(locked_for_update(free.order_by("id")).values_list("id", flat=True)[:count])
        results = F("succeeded") + F("not_modified") + F("failed") + F("skipped")
        lost = Q(worker__isnull=False)
        # The conditions are asked again of the locked row: what was read before may have changed.
        return free.filter(id__in=ids).update(
            takeovers=Case(
                When(lost & Q(takeovers__gt=0, taken_with=results), then=F("takeovers") + 1),
                When(lost, then=Value(1)),
                default=F("takeovers"),
                output_field=IntegerField(),
            ),
            strikes=Case(
                When(lost & Q(suspect__isnull=False), then=F("strikes") + 1),
                default=F("strikes"),
                output_field=SmallIntegerField(),
            ),
            taken_with=Case(When(lost, then=results), default=F("taken_with"), output_field=BigIntegerField()),
            asked_at=Case(When(lost, then=Value(database_now())), default=F("asked_at"), output_field=DateTimeField()),
            worker=worker,
        )


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
