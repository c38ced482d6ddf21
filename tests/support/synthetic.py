"""Large tables in seconds: made inside the database, laid out as the store lays them out."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.management.color import no_style
from django.db import connection

from fetcher.models import PLACES, SHARD_SIZE, Body, Lane, Representation, Result, Run, Shard, Target, lane_number

HOSTS = 50

_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})"
_MARK = {"sqlite": "CAST(printf('%016d', n) AS BLOB)", "postgresql": "decode(md5(n::text), 'hex')"}
_NO_VARIANT = {"sqlite": "x''", "postgresql": "''::bytea"}
_TARGETS = """
INSERT INTO fetcher_target (id, fingerprint, method, url, host)
{numbers}
SELECT n + 1, {mark}, 'GET', 'https://host' || (n / {size} % {hosts}) || '.example/' || n,
       'host' || (n / {size} % {hosts}) || '.example:443'
FROM numbers
"""
_BODIES = """
INSERT INTO fetcher_body (id, sha256, size, encoding, file)
{numbers}
SELECT n + 1, {mark}, 1024, '', '' FROM numbers
"""
_REPRESENTATIONS = """
INSERT INTO fetcher_representation (id, body_id, content_type, etag, last_modified, variant)
SELECT id, target_id, 'text/html', '', '', {mark} FROM fetcher_result WHERE run_id = {run}
"""
_RESULTS = """
INSERT INTO fetcher_result (id, run_id, target_id, position, status, error_kind, error_detail, http_status, attempts,
                            started_at, elapsed_us, bytes, changed, representation_id)
{numbers}
SELECT shard.id * {places} + n, shard.run_id, (shard.id - {first}) * {size} + n + 1, (shard.id - {first}) * {size} + n,
       CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 7 = 0 THEN 'not_modified' ELSE 'succeeded' END,
       CASE WHEN n % 40 = 0 THEN 'http_status' WHEN n % 20 = 0 THEN 'timeout' END,
       '', CASE WHEN n % 40 = 0 THEN 404 WHEN n % 20 = 0 THEN NULL WHEN n % 7 = 0 THEN 304 ELSE 200 END, 1,
       1700000000000, 250000, 1024, {changed},
       (shard.id - {first} + {origin}) * {places} + n
FROM fetcher_shard AS shard CROSS JOIN numbers
WHERE shard.run_id = {run}
ORDER BY 1
"""


@dataclass(frozen=True)
class Filled:
    """What the tables hold: these runs, oldest first, each with ``results`` results of the same targets."""

    runs: tuple[int, ...]
    results: int


def fill(*, runs: int, results: int) -> Filled:
    """Fill empty tables with completed runs of the same targets; ``results`` is rounded to whole shards."""
    shards = max(1, results // SHARD_SIZE)
    results = shards * SHARD_SIZE
    words = {
        "numbers": _NUMBERS.format(last=results - 1),
        "mark": _MARK[connection.vendor],
        "size": SHARD_SIZE,
        "hosts": HOSTS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_TARGETS.format(**words))
        cursor.execute(_BODIES.format(**words))
        origin, made = 0, []
        for _ in range(runs):
            run, first = _make_run(shards)
            origin = origin or first
            words = {"numbers": _NUMBERS.format(last=SHARD_SIZE - 1), "places": PLACES, "size": SHARD_SIZE}
            changed = "n % 3 = 0" if connection.vendor == "postgresql" else "(n % 3 = 0)"
            cursor.execute(_RESULTS.format(**words, run=run, first=first, origin=origin, changed=changed))
            made.append(run)
        cursor.execute(_REPRESENTATIONS.format(run=made[0], mark=_NO_VARIANT[connection.vendor]))
        # The ids above were given: what is inserted next must not get them again.
        for statement in connection.ops.sequence_reset_sql(no_style(), [Target, Body, Result, Representation]):
            cursor.execute(statement)
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")
    return Filled(tuple(made), results)


def _make_run(shards: int) -> tuple[int, int]:
    """Make a run with its lanes and shards; return its id and that of its first shard."""
    run = Run.objects.create(state="completed", options={})
    failed, unchanged = (len(range(0, SHARD_SIZE, step)) for step in (20, 7))
    unchanged -= len(range(0, SHARD_SIZE, 140))
    hosts = range(min(HOSTS, shards))
    lanes: dict[int, int] = {}
    for number in sorted({lane_number(host_name(host)) for host in hosts}):
        mine = sum(lane_number(host_name(shard % HOSTS)) == number for shard in range(shards))
        lane = Lane.objects.create(
            run=run, number=number, planned=mine * SHARD_SIZE, failed=mine * failed, not_modified=mine * unchanged,
            succeeded=mine * (SHARD_SIZE - failed - unchanged), bytes=mine * SHARD_SIZE * 1024,
        )  # fmt: skip
        lanes[number] = lane.pk
    rows = [
        Shard(run=run, lane_id=lanes[lane_number(host_name(shard % HOSTS))], size=SHARD_SIZE, payload=b"")
        for shard in range(shards)
    ]
    Shard.objects.bulk_create(rows, batch_size=500)
    first = Shard.objects.filter(run=run).order_by("id").values_list("id", flat=True)[0]
    return run.pk, first


def host_name(number: int) -> str:
    """Return the politeness key of a host."""
    return f"host{number}.example:443"
