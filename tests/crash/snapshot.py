"""What a database holds of a run at one moment, read with plain SQL."""

from __future__ import annotations

from dataclasses import dataclass, field

from fetcher.store.shards import decode_payload
from tests.crash.databases import Database, Rows

STATUSES = ("succeeded", "not_modified", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane's counters. ``counts`` is by status."""

    planned: int
    counts: dict[str, int]
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard and its targets' ids and positions, in order."""

    lane: int
    size: int
    targets: list[int]
    positions: list[int]
    done: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A result. ``started_at`` is seconds since the epoch; ``whole``: a good one has its body."""

    id: int
    target: int
    position: int
    status: str
    bytes: int = 0
    started_at: float = 0.0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run. ``rejected`` counts the lines that were kept, ``rejected_said`` what the run says; ``urls`` by target."""

    run: int
    state: str
    planned: bool
    duplicates: int
    rejected: int
    rejected_said: int
    lanes: dict[int, Lane] = field(default_factory=dict)
    shards: dict[int, Shard] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    urls: dict[int, str] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Targets in shards."""
        return sum(len(shard.targets) for shard in self.shards.values())


def read_snapshot(database: Database, label: str) -> Snapshot | None:
    """Return the run with a label, or None where there is none yet."""
    with database.reading() as connection:
        found = connection.execute(
            f"SELECT id, state, planned_at IS NOT NULL, duplicates, rejected FROM fetcher_run WHERE label = '{label}'"
        ).fetchall()
        if not found:
            return None
        ((run, state, planned, duplicates, rejected),) = found
        ((kept,),) = connection.execute(f"SELECT count(*) FROM fetcher_rejectedline WHERE run_id = {run}").fetchall()
        return Snapshot(
            run,
            state,
            bool(planned),
            duplicates,
            kept,
            rejected,
            _lanes(connection, run),
            _shards(connection, run),
            _results(connection, run),
            dict(connection.execute("SELECT id, url FROM fetcher_target").fetchall()),
        )


def _lanes(connection: Rows, run: int) -> dict[int, Lane]:
    rows = connection.execute(
        f"SELECT id, planned, bytes, {', '.join(STATUSES)} FROM fetcher_lane WHERE run_id = {run}"
    ).fetchall()
    return {pk: Lane(planned, dict(zip(STATUSES, counts, strict=True)), size) for pk, planned, size, *counts in rows}


def _shards(connection: Rows, run: int) -> dict[int, Shard]:
    found = {}
    for pk, lane, size, stored, done in connection.execute(
        f"SELECT id, lane_id, size, payload, done_at IS NOT NULL FROM fetcher_shard WHERE run_id = {run}"
    ).fetchall():
        payload = decode_payload(bytes(stored))
        found[pk] = Shard(lane, size, payload.targets, payload.positions, bool(done))
    return found


def _results(connection: Rows, run: int) -> list[Result]:
    rows = connection.execute(
        "SELECT r.id, r.target_id, r.position, r.status, r.bytes, r.started_at,"
        " b.id IS NOT NULL OR r.status NOT IN ('succeeded', 'not_modified') FROM fetcher_result r"
        " LEFT JOIN fetcher_representation p ON p.id = r.representation_id LEFT JOIN fetcher_body b ON b.id = p.body_id"
        f" WHERE r.run_id = {run} ORDER BY r.id"
    ).fetchall()
    return [Result(*row[:5], row[5] / 1000, bool(row[6])) for row in rows]
