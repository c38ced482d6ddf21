"""Rows for tests of what reads them, written through the ORM in the way the store lays them out."""

from __future__ import annotations

import hashlib
import zlib
from datetime import UTC, datetime
from typing import Any

from fetcher.details import encode_detail
from fetcher.engine.types import Outcome, Status
from fetcher.engine.urls import fingerprint, parse_url
from fetcher.models import PLACES, Body, Lane, Representation, Result, Run, Shard, Target, lane_number

_REPRESENTED = ("body", "content_type", "etag", "last_modified", "variant")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def make_run(**values: Any) -> Run:
    return Run.objects.create(**{"state": "completed", "created_at": NOON, "options": {"concurrency": 100}, **values})


def make_target(url: str, **values: Any) -> Target:
    parsed = parse_url(url)
    method = values.pop("method", "GET")
    headers = values.pop("headers", None)
    mark = fingerprint(method, parsed.href, headers or ())
    found = Target.objects.filter(fingerprint=mark).first()
    return found or Target.objects.create(
        fingerprint=mark, method=method, url=parsed.href, host=parsed.host, headers=headers, **values
    )


def make_body(content: bytes, /, **values: Any) -> Body:
    return Body.objects.create(**{
        "sha256": hashlib.sha256(content).digest(), "size": len(content), "content": content, **values
    })  # fmt: skip


def zlib_body(content: bytes) -> Body:
    return make_body(content, content=zlib.compress(content), encoding="zlib")


def make_shard(run: Run, host: str = "example.com:443", size: int = 0) -> Shard:
    lane, _ = Lane.objects.get_or_create(run=run, number=lane_number(host), part=0)
    return Shard.objects.create(run=run, lane=lane, size=size, payload=b"")


def make_result(run: Run, url: str = "https://example.com/", *, shard: Shard | None = None, **values: Any) -> Result:
    """Make the next result of a shard (by default the run's last one of the URL's lane)."""
    request = {name: values.pop(name) for name in ("method", "headers") if name in values}
    target = make_target(url, **request)
    if shard is None:
        shard = run.shards.filter(lane__number=lane_number(target.host)).order_by("-id").first()
    shard = shard or make_shard(run, target.host)
    place = Result.objects.filter(id__gte=shard.pk * PLACES, id__lt=(shard.pk + 1) * PLACES).count()
    row = {
        "id": shard.pk * PLACES + place,
        "status": "succeeded",
        "position": Result.objects.filter(run=run).count(),
        "attempts": 1,
        "started_at": NOON,
        "elapsed_us": 250_123,
        "http_status": 200,
        **values,
    }
    found = {name: row.pop(name) for name in _REPRESENTED if name in row}
    if found:
        Representation.objects.create(id=row["id"], **{"variant": b"", **found})
        row["representation_id"] = row["id"]
    if row["status"] in ("failed", "skipped"):
        row.setdefault("error_kind", "timeout")
    lane = shard.lane
    lane.refresh_from_db()
    lane.planned += 1
    setattr(lane, str(row["status"]), getattr(lane, str(row["status"])) + 1)
    lane.bytes += row.get("bytes", 0)
    lane.save()
    return Result.objects.create(run=run, target=target, **row)


def detail_of(target: Any, **values: Any) -> bytes:
    """Encode an outcome's detail; ``values`` are Outcome's fields."""
    return encode_detail(Outcome(**{
        "target": target, "status": Status.SUCCEEDED, "started_at": 0.0, "finished_at": 0.0, "elapsed": 0.0,
        "final_url": "", **values,
    }))  # fmt: skip
