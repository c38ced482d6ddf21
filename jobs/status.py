"""How the cluster is: what waits, who works, what is due, and what looks wrong.

Everything is read from the database, and from the queue without taking anything out of it. Other machines are known by
what they last wrote, so a machine that died is there for as long as ``UNSEEN``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db.models import Count
from django_q.conf import Conf
from django_q.models import Schedule as Alarm

from fetcher.machine import is_gone, this_process
from fetcher.models import Run, Worker
from fetcher.models.clock import database_now
from fetcher.payloads import run_items, timestamp
from fetcher.store import trouble
from fetcher.store.cluster import UNHEARD
from jobs.brokers import clock_skew
from jobs.models import Cluster, Job
from jobs.queue import QueueItem, read_queue
from jobs.timers import FIRE, HEARD, SWEEP, name_of

LATE = 120.0
"""Seconds that a message may wait: longer than a slice and an attempt at its end take."""
UNSEEN = timedelta(seconds=60)
"""After so long without a word a cluster counts as lost."""
SKEW = 10.0
"""Seconds by which a machine's clock may differ from the database's."""
_AWAY = 600
"""Seconds for which a cluster that was lost is told of as something that may need a hand."""
_SHOWN = 50


class ClusterItem(msgspec.Struct, frozen=True):
    """A ``qcluster``. ``state`` is working, stopping or lost; ``pid`` takes SIGTERM.

    ``seen_s`` is how long ago it told of itself. ``replaced`` counts worker processes that ended and were replaced.
    ``skew_s`` is by how many seconds its machine's clock is ahead of the database's.
    """

    machine: str
    pid: int
    state: str
    workers: int
    replaced: int
    started_at: str
    seen_s: float
    skew_s: float


class WorkerItem(msgspec.Struct, frozen=True):
    """A process that fetches now, the cluster's or a command's.

    ``lease_s`` is how long its lease goes on, below nought since when it is over; ``lanes`` are those that it holds.
    Without ``sends`` it only reads a run's source. ``ended``: its process is known to be gone.
    """

    machine: str
    pid: int
    run: int | None
    sends: bool
    lanes: int
    lease_s: float
    ended: bool


class RunItem(msgspec.Struct, frozen=True):
    """A run that the cluster has. ``woken_s`` is how long ago it was last told of it.

    ``trouble`` says in a line what is wrong where slice after slice fails, null where that is not so.
    """

    id: int
    state: str
    label: str | None
    job: str | None
    pending: int
    total: int
    workers: int
    woken_s: float | None
    trouble: str | None


class AlarmItem(msgspec.Struct, frozen=True):
    """When a job fires next; ``late_s`` is by how much that is over, null while it is to come."""

    job: str
    at: str
    late_s: float | None


class ClusterStatus(msgspec.Struct, frozen=True):
    """All of it. ``clusters`` is null where they cannot be known (see ``jobs.brokers``).

    ``problems`` has a line for each thing that looks wrong; none means healthy.
    """

    queue: QueueItem
    clusters: list[ClusterItem] | None
    workers: list[WorkerItem]
    runs: list[RunItem]
    alarms: list[AlarmItem]
    problems: list[str]

    @property
    def working(self) -> list[ClusterItem]:
        """The clusters that take messages."""
        return [cluster for cluster in self.clusters or () if cluster.state == "working"]

    @property
    def busy(self) -> int:
        """How many workers fetch."""
        return sum(worker.sends and worker.lease_s > 0 and not worker.ended for worker in self.workers)


def cluster_status(*, late: float = LATE) -> ClusterStatus:
    """Read how the cluster is. A message may wait for ``late`` seconds. Raises DatabaseError."""
    now = database_now()
    workers = list(_workers(now))
    status = ClusterStatus(
        queue=read_queue(now),
        clusters=list(_clusters(now)) if _are_seen() else None,
        workers=workers,
        runs=list(_runs(now, workers)),
        alarms=list(_alarms(now)),
        problems=[],
    )
    return msgspec.structs.replace(status, problems=list(_problems(status, now, late)))


def _are_seen() -> bool:
    """Whether the queue's broker notes which clusters there are."""
    return str(Conf.BROKER_CLASS or "").startswith("jobs.brokers.")


def _clusters(now: datetime) -> Iterator[ClusterItem]:
    here = this_process()
    for row in Cluster.objects.order_by("hostname", "started_at"):
        process = replace(here, hostname=row.hostname, boot=row.boot_id, pid=row.pid, started=row.process_started)
        lost = now - row.seen_at > UNSEEN or is_gone(process)
        yield ClusterItem(
            machine=row.hostname,
            pid=row.main_pid,
            state="lost" if lost else "stopping" if row.stopping else "working",
            workers=row.workers,
            replaced=row.replaced,
            started_at=timestamp(row.started_at),
            seen_s=_since(row.seen_at, now),
            skew_s=round(row.skew, 1),
        )


def _workers(now: datetime) -> Iterator[WorkerItem]:
    ended = set(Worker.objects.ended())
    # One that is gone is nothing any more but a row, unless it holds lanes of a run that goes on.
    going = set(Run.objects.alive(now).values_list("id", flat=True))
    lanes = dict(Worker.objects.values_list("id").annotate(Count("lanes")))
    for row in Worker.objects.order_by("hostname", "pid"):
        gone = row.pk in ended or row.expires_at <= now
        if not gone or (lanes.get(row.pk) and row.run_id in going):
            yield WorkerItem(
                machine=row.hostname,
                pid=row.pid,
                run=row.run_id,
                sends=row.sends,
                lanes=lanes.get(row.pk, 0),
                lease_s=-_since(row.expires_at, now),
                ended=row.pk in ended,
            )


def _runs(now: datetime, workers: Iterable[WorkerItem]) -> Iterator[RunItem]:
    staff = Counter(worker.run for worker in workers if worker.sends and worker.lease_s > 0 and not worker.ended)
    of_cluster = Run.objects.of_cluster().order_by("id")[:_SHOWN]
    rows: dict[int, Any] = {pk: row for pk, *row in of_cluster.values_list("id", "woken_at", "trouble")}
    for run in run_items(of_cluster):
        told, stored = rows.get(run.id, (None, None))
        yield RunItem(
            id=run.id,
            state=run.state,
            label=run.label,
            job=run.job,
            pending=run.pending,
            total=run.total,
            workers=staff[run.id],
            woken_s=None if told is None else _since(told, now),
            trouble=trouble.told_of(stored, run.total - run.pending),
        )


def _alarms(now: datetime) -> Iterator[AlarmItem]:
    names = {name_of(pk): name for pk, name in Job.objects.filter(enabled=True).values_list("id", "name")}
    for alarm in Alarm.objects.filter(func=FIRE, name__in=names).order_by("next_run"):
        late = _since(alarm.next_run, now)
        yield AlarmItem(job=names[alarm.name], at=timestamp(alarm.next_run), late_s=late if late > 0 else None)


def _since(moment: datetime, now: datetime) -> float:
    return round((now - moment).total_seconds(), 1)


def _problems(status: ClusterStatus, now: datetime, late: float) -> Iterator[str]:
    if status.queue.error is not None:
        yield status.queue.error
    nobody = status.clusters is not None and not status.working
    # Those that have just begun did not look at the schedules yet.
    began = [datetime.fromisoformat(cluster.started_at) for cluster in status.working]
    new = bool(began) and now - min(began) < HEARD
    if nobody:
        yield "no cluster works; start one with: manage.py qcluster"
    elif not new:
        yield from _late_sweep(now)
    yield from _lost(status)
    yield from _skewed(status)
    yield from _late_message(status, late, nobody=nobody)
    yield from _leases(status)
    for run in status.runs:
        if run.trouble is not None:
            yield f"run {run.id}: {run.trouble}"
        if run.pending and not run.workers and (run.woken_s or 0) > 3 * UNHEARD.total_seconds():
            yield f"run {run.id} has {run.pending:,} pending: for {run.woken_s:,.0f} s nobody has worked on it"
    for alarm in status.alarms if not new else ():
        if (alarm.late_s or 0) > HEARD.total_seconds():
            yield f"job {alarm.job} was due at {alarm.at} and has not fired for {alarm.late_s:,.0f} s"


def _late_message(status: ClusterStatus, late: float, *, nobody: bool) -> Iterator[str]:
    oldest = status.queue.oldest_s
    # A cluster that is stuck took a few before. One alone that was taken long ago says less: whoever had it was killed.
    stuck = oldest is not None and oldest > late / 4 and (status.queue.taken_s or 0) > late
    if oldest is None or (oldest <= late and not stuck):
        return
    line = f"a message has waited for {oldest:,.0f} s"
    # Where workers are busy a message may wait for its turn: it is one of several for the same run.
    moving = status.busy or any(run.woken_s is not None and run.woken_s < late for run in status.runs)
    if nobody or status.clusters is None:
        yield line
    elif not moving:
        yield (
            f"{line}, although nobody fetches: a worker that was killed while it had nothing to do leaves its cluster "
            "stuck, and deaf to SIGTERM; end its processes with SIGKILL and start it again, nothing is lost"
        )


def _leases(status: ClusterStatus) -> Iterator[str]:
    for worker in status.workers:
        if not worker.lanes or (worker.lease_s > 0 and not worker.ended):
            continue
        end = "has ended" if worker.ended else f"has not renewed its lease, which was over {-worker.lease_s:,.0f} s ago"
        yield (
            f"worker {worker.machine}:{worker.pid} {end}, and holds lanes of run {worker.run} ({worker.lanes}); "
            "the run's next worker takes them"
        )


def _lost(status: ClusterStatus) -> Iterator[str]:
    for cluster in status.clusters or ():
        if cluster.state == "lost" and cluster.seen_s < _AWAY:
            yield (
                f"cluster {cluster.machine}:{cluster.pid} ended without saying so; it was last seen "
                f"{cluster.seen_s:,.0f} s ago"
            )


def _skewed(status: ClusterStatus) -> Iterator[str]:
    off = {cluster.machine: cluster.skew_s for cluster in status.working if abs(cluster.skew_s) > SKEW}
    here = clock_skew()
    if abs(here) > SKEW:
        off.setdefault(this_process().hostname, here)
    for machine, seconds in off.items():
        direction = "ahead of" if seconds > 0 else "behind"
        yield (
            f"the clock of {machine} is {abs(seconds):,.0f} s {direction} the database's: its schedules go off at the "
            "wrong time; set it, and keep it right with NTP"
        )


def _late_sweep(now: datetime) -> Iterator[str]:
    sweep = Alarm.objects.filter(func=SWEEP).first()
    if sweep is None:
        yield "the sweep, which finds what was lost, is not scheduled; set it up with: manage.py migrate"
    elif now - sweep.next_run > 2 * HEARD:
        yield f"the sweep was due {_since(sweep.next_run, now):,.0f} s ago: no cluster looks at the schedules"
