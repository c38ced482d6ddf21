"""The cluster as an operator reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from fetcher.cli.summary import print_parts
from fetcher.cli.tables import Column, Listing
from fetcher.cli.text import count, duration, printable
from jobs.queue import QueueItem
from jobs.status import ClusterStatus

_ALARMS_SHOWN = 10


def print_status(stream: TextIO, status: ClusterStatus) -> None:
    """Print all of it: a line on the queue, a table for each kind of thing that there is, and what looks wrong."""
    parts: list[RenderableType] = [
        Text(f"Queue     {printable(queue_line(status.queue))}"),
        _clusters(status),
        *_workers(status),
        *_runs(status),
        *_alarms(status),
    ]
    if status.problems:
        parts.append(Text("\n".join(["Wrong", *(printable(line) for line in status.problems)]), "red"))
    else:
        parts.append(Text("Nothing looks wrong.", "green"))
    print_parts(stream, parts)


def queue_line(queue: QueueItem) -> str:
    """Return where the queue is and what waits in it."""
    where = f"{queue.kind} at {queue.address}" if queue.kind == "redis" else queue.address
    if queue.waiting is None:
        return f"{where}: cannot be read"
    oldest = "" if queue.oldest_s is None else f", the oldest for {duration(queue.oldest_s)}"
    taken = f", {count(queue.taken)} being worked on" if queue.taken else ""
    return f"{where}: {count(queue.waiting, 'message')} waiting{oldest}{taken}"


def status_line(status: ClusterStatus) -> str:
    """Return the same in one line, for ``--watch`` where there is no terminal."""
    workers = sum(cluster.workers for cluster in status.working)
    clusters = "clusters unknown" if status.clusters is None else count(len(status.working), "cluster")
    pending = sum(run.pending for run in status.runs)
    return "; ".join([
        queue_line(status.queue),
        f"{clusters}, {status.busy} of {count(workers, 'worker')} busy",
        f"{count(len(status.runs), 'run')}, {count(pending)} pending",
        count(len(status.problems), "problem") if status.problems else "nothing wrong",
    ])  # fmt: skip


def _clusters(status: ClusterStatus) -> RenderableType:
    if status.clusters is None:
        return Text('Clusters  unknown: set Q_CLUSTER["broker_class"] to jobs.brokers.OrmBroker or RedisBroker')
    if not status.clusters:
        return Text("Clusters  none")
    return _table(
        ("cluster", "state", "workers", "replaced", "started", "seen"),
        (
            (
                f"{cluster.machine}:{cluster.pid}",
                cluster.state,
                count(cluster.workers),
                count(cluster.replaced),
                _minute(cluster.started_at),
                f"{_ago(cluster.seen_s)}",
            )
            for cluster in status.clusters
        ),
    )


def _workers(status: ClusterStatus) -> list[RenderableType]:
    if not status.workers:
        return []
    rows = (
        (
            f"{worker.machine}:{worker.pid}",
            "" if worker.run is None else str(worker.run),
            count(worker.lanes) if worker.sends else "reads the source",
            "ended" if worker.ended else _lease(worker.lease_s),
        )
        for worker in status.workers
    )
    return [_table(("worker", "run", "lanes", "lease"), rows)]


def _runs(status: ClusterStatus) -> list[RenderableType]:
    if not status.runs:
        return []
    rows = (
        (
            str(run.id),
            run.job or run.label or "",
            run.state,
            f"{count(run.pending)} of {count(run.total)}",
            count(run.workers),
            "" if run.woken_s is None else _ago(run.woken_s),
        )
        for run in status.runs
    )
    return [_table(("run", "job or label", "state", "pending", "workers", "woken"), rows, named=2)]


def _alarms(status: ClusterStatus) -> list[RenderableType]:
    if not status.alarms:
        return []
    rows = [
        (alarm.job, _minute(alarm.at), "" if alarm.late_s is None else f"{duration(alarm.late_s)} late")
        for alarm in status.alarms[:_ALARMS_SHOWN]
    ]
    if len(status.alarms) > _ALARMS_SHOWN:
        rows.append((f"… and {count(len(status.alarms) - _ALARMS_SHOWN)} more", "", ""))
    return [_table(("job", "due", ""), rows)]


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]], named: int = 1) -> Listing:
    """Return a table whose first ``named`` columns say what a row is of; of the others the last gives way first."""
    columns = (
        Column(name, gives_way=max(0, place - named + 1), folds=place < named) for place, name in enumerate(names)
    )
    return Listing(list(columns), rows)


def _minute(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")


def _ago(seconds: float) -> str:
    return f"{duration(max(0.0, seconds))} ago"


def _lease(seconds: float) -> str:
    return f"{duration(seconds)} left" if seconds > 0 else f"over for {duration(-seconds)}"
