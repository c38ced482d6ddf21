"""Runs planned and recorded through the store itself, without any fetching."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections

from fetcher.conf import fetcher_settings
from fetcher.engine.bodies import SpilledBody
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Headers, Outcome, Status, Target
from fetcher.models import Lane
from fetcher.sources import Entry
from fetcher.sources.entry import entry_for_url
from fetcher.store import leases, runs, shards
from fetcher.store.plan import Planner
from fetcher.store.record import Recorder

CONFIG = FetchConfig()


def entries(*urls: str, source: str = "list") -> list[Entry]:
    return [entry_for_url(source, line, url) for line, url in enumerate(urls, 1)]


def plan(*urls: str, config: FetchConfig = CONFIG) -> int:
    """Create a run, plan these URLs and return its id."""
    run = runs.create_run(config)
    Planner(run).add(entries(*urls))
    runs.planned(run)
    return run


def open_targets(run: int, *, config: FetchConfig = CONFIG, conditional: bool = True) -> list[Target]:
    """Return the targets without a result, in the order of the input."""
    lanes = list(Lane.objects.filter(run=run).values_list("id", flat=True))
    opened = [shard for _, shard in shards.open_shards(lanes, after={})]
    slots = [slot for found in shards.open_slots(opened).values() for slot in found]
    targets = shards.load_targets(run, slots, runs.variant_of(config), conditional=conditional)
    return sorted(targets, key=lambda target: target.key.position)  # type: ignore[union-attr]


def outcome(
    target: Target, *, body: bytes | SpilledBody | None = b"content", headers: Headers = (), **values: Any
) -> Outcome:
    """Return a success, unless ``values`` say otherwise."""
    return Outcome(**{
        "target": target, "status": Status.SUCCEEDED, "started_at": 1_700_000_000.0, "finished_at": 1_700_000_000.5,
        "elapsed": 0.5, "final_url": target.url, "http_status": 200, "body": body, "headers": headers, **values,
    })  # fmt: skip


def record(run: int, outcomes: Iterable[Outcome], **options: Any) -> list[int]:
    """Record outcomes for a worker that registers, takes the lanes and gives them up again."""
    worker = leases.register_worker()
    leases.lease_lanes(run, worker)
    try:
        new = Recorder(run, worker, fetcher_settings(), **options).record(list(outcomes))
        return [one.target.key.result for one in new]  # type: ignore[union-attr]
    finally:
        leases.let_go(worker)


def fetch(*urls: str, config: FetchConfig = CONFIG, **values: Any) -> int:
    """Plan a run and record the same outcome for each target; returns the run."""
    run = plan(*urls, config=config)
    record(run, [outcome(target, **values) for target in open_targets(run, config=config)])
    return run


def side_by_side(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in a thread with a connection of its own, begun together, and return what they returned.

    Raises the first exception.
    """
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []
    start = threading.Barrier(len(calls))

    def work(place: int, call: Callable[[], Any]) -> None:
        try:
            start.wait()
            results[place] = call()
        except BaseException as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
