"""Runs whose targets were planned before, elsewhere: their shards are copied, and no URL is parsed or stored again."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from fetcher.engine.config import FetchConfig
from fetcher.models import Run
from fetcher.models.clock import database_now
from fetcher.options import RunOptions
from fetcher.store import runs

# Fields without a default in the database are named; the counters of a lane that has no result are all 0.
_LANES = """
    INSERT INTO fetcher_lane (run_id, number, part, planned, takeovers, taken_with, strikes,
                              succeeded, not_modified, failed, skipped, bytes)
    SELECT %s, number, part, SUM(size), 0, 0, 0, 0, 0, 0, 0, 0
    FROM ({source}) prepared GROUP BY number, part ORDER BY number, part
"""
# In the order of the ids: so a run's results lie in the order in which its targets were planned.
_SHARDS = """
    INSERT INTO fetcher_shard (run_id, lane_id, size, payload)
    SELECT lane.run_id, lane.id, prepared.size, prepared.payload
    FROM ({source}) prepared JOIN fetcher_lane lane
    ON lane.run_id = %s AND lane.number = prepared.number AND lane.part = prepared.part
    ORDER BY prepared.id
"""


def create_prepared(
    shards: QuerySet[Any],
    config: FetchConfig,
    options: RunOptions,
    *,
    label: str = "",
    source: str = "",
    job: tuple[int, str] | None = None,
    secrets: bool = False,
) -> int:
    """Add a pending run with a copy of these shards, all in one transaction, and return its id.

    ``shards`` are rows of any table with ``id``, a lane's ``number`` and ``part``, ``size`` and ``payload``
    (``fetcher.store.shards.encode_payload``). ``secrets`` says that payloads hold some, which are then wiped with the
    run's own when it is over.
    """
    rows, parameters = shards.order_by().values("id", "number", "part", "size", "payload").query.sql_with_params()
    with transaction.atomic():
        run = runs.create_run(config, options, label=label, source=source, job=job)
        if secrets:
            runs.expect_secrets(run)
        with connection.cursor() as cursor:
            cursor.execute(_LANES.format(source=rows), [run, *parameters])
            cursor.execute(_SHARDS.format(source=rows), [*parameters, run])
        Run.objects.filter(pk=run).update(planned_at=database_now())
    return run
