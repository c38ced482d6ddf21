"""The runs that the cluster has: which of them needs a worker most, and what becomes of one between two workers."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from fetcher.models import OVER, Lane, Run, RunState, Worker, WorkerQuerySet
from fetcher.models.clock import database_now, database_time
from fetcher.store import leases, runs, trouble

UNHEARD = timedelta(seconds=60)
"""After so long without a worker a message is taken for lost."""
TARGETS_A_WORKER = 1000
"""Targets without a result for which a run can use one more worker."""


def hand_over(run: int) -> None:
    """Give a run to the cluster, or note that the cluster was told of it again. One that is over stays over."""
    now = database_now()
    given = Run.objects.filter(pk=run)
    given.filter(state=RunState.INTERRUPTED).update(state=RunState.PENDING, finished_at=None, woken_at=now)
    given.filter(state__in=(RunState.PENDING, RunState.RUNNING)).update(woken_at=now)


def begin_planning(run: int, worker: int) -> None:
    """Give the cluster a run whose source is being read by a worker."""
    row = Run.objects.get(pk=run)
    if row.woken_at is None:  # otherwise it has begun, perhaps
        row.state = RunState.PENDING
    row.planner, row.finished_at, row.woken_at = worker, None, database_now()
    row.save(update_fields=["state", "planner", "finished_at", "woken_at"])


def read_on(run: int, worker: int) -> bool:
    """Have a worker read on the source of a run that the cluster works on; False where the cluster does not have it.

    Raises RunBusy where another one reads it.
    """
    row = Run.objects.select_for_update(no_key=True).filter(pk=run).of_cluster().first()
    if row is None:
        return False
    if row.planned_at is not None and workers_on(run):
        raise runs.RunBusy(
            f"the cluster works on run {run}, and its list is read to the end. Follow it with: "
            f"manage.py runs show {run} --watch"
        )
    if row.planner is not None and _alive().filter(pk=row.planner).exists():
        raise runs.RunBusy(f"run {run} is in progress: another process reads its list")
    return True


def end_planning(run: int, worker: int) -> RunState:
    """Note that a worker reads a run's source no more, end the run where it is done, and return its state."""
    Run.objects.filter(pk=run, planner=worker).update(planner=None)
    if runs.is_cancelled(run):
        runs.finish(run)
    else:
        _ended(run)
    return RunState(Run.objects.values_list("state", flat=True).get(pk=run))


def workers_on(run: int) -> int:
    """Count the workers that fetch for a run now."""
    return _staff()[run]


def is_neglected(run: int) -> bool:
    """Whether a run of the cluster has work and nobody who does it."""
    return not _staff()[run] and has_free_lanes(run)


def lacks_workers(run: int, most: int) -> bool:
    """Whether a run has work for more workers than it has, of whom there may be so many at most."""
    return _staff()[run] < min(most, 1 + runs.pending(run) // TARGETS_A_WORKER)


def begin(hint: int, most: int) -> tuple[int, int] | None:
    """Register a worker for the run that needs one most, and return the ids of both; None where no run needs any.

    That is the run with the fewest workers; of several ``hint``, or the oldest. No run gets more than ``most``.
    """
    staff = _staff()
    of_cluster = list(Run.objects.of_cluster().order_by("id").values_list("id", flat=True))
    for run in sorted(of_cluster, key=lambda run: (staff[run], run != hint, run)):
        if staff[run] < most and Lane.objects.filter(run=run).still_open().exists():
            with transaction.atomic():  # a run without a worker would look like one that waits for its turn
                # Locked, so that who cancels it now finds this worker.
                row = Run.objects.select_for_update(no_key=True).filter(pk=run).of_cluster().first()
                if row is None or _staff()[run] >= most:  # somebody was faster
                    continue
                row.state, row.finished_at = RunState.RUNNING, None
                row.started_at = row.started_at or database_now()
                row.save(update_fields=["state", "finished_at", "started_at"])
                return run, leases.register_worker(run)
    return None


def end(run: int, worker: int, *, woken: bool) -> bool:
    """Let go of everything and end the run where it is done; return whether somebody should be woken for it.

    ``woken``: somebody was already, and may have come and gone.
    """
    leases.let_go(worker)
    trouble.forget(run)
    row = Run.objects.filter(pk=run).first()
    if row is None:
        return False
    if row.state == RunState.CANCELLED:
        runs.finish(run)
        return False
    if row.woken_at is None or row.state in OVER:  # somebody else resumed it, or ended it
        return False
    if _ended(run) or not has_free_lanes(run):
        return False
    return not woken or not _staff()[run]


def has_free_lanes(run: int) -> bool:
    """Whether nobody has some of a run's open lanes."""
    return Lane.objects.filter(run=run, worker=None).still_open().exists()


def is_over(run: int) -> bool:
    """Whether the cluster has nothing more to do for a run."""
    return not Run.objects.filter(pk=run).of_cluster().exists()


def is_read(run: int) -> bool:
    """Whether somebody still reads a run's source."""
    planner = Run.objects.filter(pk=run, planned_at=None).values_list("planner", flat=True).first()
    return planner is not None and _alive().filter(pk=planner).exists()


def fail(run: int, worker: int, error: str) -> None:
    """End a run that cannot be gone on with."""
    leases.let_go(worker)
    runs.finish(run, failed=True, error=error)


def note_failed_slice(run: int, worker: int, reason: str, *, outage: bool) -> bool:
    """Note that a slice failed, and let go of everything; return whether that ended the run.

    Its lanes count as lost, so that quarantine finds a target that makes slices fail. Where nothing helps and slice
    after slice fails without a result, the run is ended as failed: it must not keep its job's next runs from beginning.
    An ``outage`` of the database or a disk that is full ends no run.
    """
    if outage:
        leases.let_go(worker)
    else:
        leases.bury(worker)
    failures = trouble.note(run, reason, outage=outage)
    if outage or failures < trouble.MOST:
        return False
    runs.finish(
        run, failed=True, error=f"{failures} slices in a row failed without saving a result, the last: {reason}"
    )
    return True


def sweep() -> list[int]:
    """End the runs of the cluster that are done, and return those for which a worker should be woken.

    Nobody works for these, and for a while nobody was told: a worker ended between two steps, a message was lost.
    """
    _end_cancelled()
    leases.remove_old_workers()
    staff = _staff()
    now = database_time()
    unheard = Run.objects.of_cluster().filter(Q(woken_at__lt=now - UNHEARD) | Q(woken_at__gt=now + UNHEARD))
    return [
        run
        for run in unheard.exclude(id__in=staff.keys()).order_by("id").values_list("id", flat=True)
        if not _ended(run) and Lane.objects.filter(run=run).still_open().exists()
    ]


def _end_cancelled() -> None:
    """Wipe the secrets of cancelled runs whose last process was killed before it could."""
    for run in list(Run.objects.filter(state=RunState.CANCELLED, secrets__isnull=False).values_list("id", flat=True)):
        if not Worker.objects.of_run(run).filter(id__in=_alive().values("id")).exists():
            runs.finish(run, deserted=True)


def starving(but: int) -> bool:
    """Whether a run of the cluster has work and no worker, while ``but`` has one."""
    staff = _staff()
    waiting = Run.objects.of_cluster().exclude(id__in=[but, *staff.keys()]).values("id")
    return Lane.objects.filter(run__in=waiting).still_open().exists()


def _staff() -> Counter[int]:
    """Count the workers of each run that send."""
    return Counter(_alive().filter(sends=True, run__isnull=False).values_list("run_id", flat=True))


def _alive() -> WorkerQuerySet:
    """Return the workers whose lease goes on. Where to send help may rest on a clock; who holds a lane does not."""
    return Worker.objects.filter(expires_at__gt=database_time()).exclude(id__in=Worker.objects.ended())


def _ended(run: int) -> bool:
    """End a run of which nothing is left, and return whether it is over; not while its source is read."""
    if runs.pending(run):
        return False
    with transaction.atomic():
        # Locked, and looked at again: whoever ended or resumed it meanwhile is not to be undone.
        row = Run.objects.select_for_update(no_key=True).filter(pk=run).of_cluster().first()
        if row is None:
            return True
        if row.planner is not None and _alive().filter(pk=row.planner).exists():
            return False
        if runs.pending(run):  # planned since
            return False
        runs.finish(run)
    return True
