"""The cluster: how soon a run is begun, what a second machine gains, and whether anything rests between two slices.

Real ``manage.py qcluster`` processes, as ``tests.cluster`` starts them, with the waits that they have in production.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.origins import FAST, benchmark_origin
from tests.cluster import politeness
from tests.cluster.cases import DRAIN, SETUPS, SQLITE, Case
from tests.cluster.stage import Grounds, Stage, grounds
from tests.crash.databases import remove
from tests.support.postgres import reason_against

ROUNDS = 5
COUNT, PAIRS = 20_000, 3
SLOW, SLICED = 200, 12_000
"""Milliseconds that an answer takes, and how many there are: with 20 at once they last for four slices of half a
minute."""
_SERVER = os.environ.get("TEST_POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"


def measure() -> list[Figure]:
    """Return the figures of each set-up whose servers are there."""
    setups = list(SETUPS) if reason_against(_SERVER) is None else [SQLITE]
    found: list[Figure] = []
    with _grounds(setups) as shared, benchmark_origin(100) as nginx:
        urls = nginx.urls(FAST, COUNT)
        for setup in setups:
            found += [_first_lease(shared, setup, urls[:10]), *_gain(shared, setup, urls)]
        for workers in (1, 2):
            found += _rest(shared, setups[0], workers)
    return found


@contextlib.contextmanager
def _grounds(setups: Sequence[str]) -> Iterator[Grounds]:
    folder = Path(tempfile.mkdtemp(prefix="trawl-benchmark-"))
    try:
        with grounds([_case(setup) for setup in setups], folder, _SERVER) as shared:
            yield shared
    finally:
        remove(folder)


def _case(setup: str) -> Case:
    return Case(setup, DRAIN, real=True)


def _first_lease(shared: Grounds, setup: str, urls: Sequence[str]) -> Figure:
    """Hand runs over to a cluster that has nothing to do: how long they are there before a worker begins with them."""
    with shared.stage(_case(setup)) as stage:
        stage.start("alone")
        waits = []
        for number in range(ROUNDS):
            _fetch(stage, urls, f"run-{number}")
            created, started, _ = _dates(stage, f"run-{number}")
            waits.append(started - created)
    return Figure(f"{SETUPS[setup]}: a run is begun after, at most of {ROUNDS}", max(waits), " s", 1, "at most")


def _gain(shared: Grounds, setup: str, urls: Sequence[str]) -> list[Figure]:
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(PAIRS):
        for clusters, found in rates.items():
            with shared.stage(_case(setup)) as stage:
                stage.start(*[f"cluster-{number}" for number in range(clusters)])
                _fetch(stage, urls, "many", "--per-host", "100", "--concurrency", "200")
                _, started, finished = _dates(stage, "many")
                found.append(len(urls) / (finished - started))
    one, two = (statistics.median(found) for found in rates.values())
    return [
        Figure(f"{SETUPS[setup]}: one cluster of one worker", one, "/s"),
        Figure(f"{SETUPS[setup]}: two clusters / one", two / one, "x"),
    ]


def _rest(shared: Grounds, setup: str, workers: int) -> list[Figure]:
    """Tell for which part of a run of several slices no request was in flight, from the origin's log."""
    netlocs = shared.netlocs
    urls = [f"http://{netlocs[n % len(netlocs)]}/slow/{workers}-{n}?ms={SLOW}" for n in range(SLICED)]
    with shared.stage(_case(setup)) as stage:
        stage.start("alone", workers=workers)
        _fetch(stage, urls, "slow", "--concurrency", "20")
        log = stage.log
    since, until = log[0].started, max(entry.ended or entry.started for entry in log)
    pauses = politeness.pauses(log, since, until)
    name = f"{SETUPS[setup]}, {workers} worker{'s' if workers > 1 else ''}, {until - since:.0f} s"
    return [
        Figure(f"{name}: without a request", 100 * sum(pauses) / (until - since), " %", 1, "at most"),
        Figure(f"{name}: the longest pause", max(pauses), " s"),
    ]


def _fetch(stage: Stage, urls: Sequence[str], label: str, *options: str) -> None:
    listing = stage.scratch.folder / f"{label}.txt"
    listing.write_text("\n".join(urls))
    stage.hand_over(["--file", str(listing)], *options, label=label)
    stage.await_end(label)


def _dates(stage: Stage, label: str) -> list[float]:
    """Return when a run was created, begun and finished, in seconds since the epoch."""
    with stage.scratch.database.reading() as connection:
        query = f"SELECT created_at, started_at, finished_at FROM fetcher_run WHERE label = '{label}'"
        ((*dates,),) = connection.execute(query).fetchall()
    return [datetime.fromisoformat(str(date)).timestamp() for date in dates]
