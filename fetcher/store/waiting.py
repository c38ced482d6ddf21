"""Targets that wait for another attempt while nobody has their lane."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from django.db import transaction
from django.db.models import Exists, OuterRef
from msgspec import structs

from fetcher.engine.defects import report_defect
from fetcher.engine.journey import bare_attempts
from fetcher.engine.types import Tried
from fetcher.models import Lane, Result, Waiting
from fetcher.store.sql import in_batches

_decoder = msgspec.msgpack.Decoder(Tried)


def put_down(rows: Sequence[tuple[int, int, Tried]]) -> None:
    """Save what was tried of targets, given as result id, lane and attempts; a later saving replaces an earlier one."""
    if not rows:
        return
    with transaction.atomic():
        Waiting.objects.bulk_create(
            [Waiting(id=result, lane_id=lane, tried=_encode(tried)) for result, lane, tried in rows],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["tried"],
            batch_size=200,
        )


def _encode(tried: Tried) -> bytes:
    """Encode what was tried; where that cannot be done only numbers and times are kept, so that the wait is."""
    try:
        return msgspec.msgpack.encode(tried)
    except Exception as exc:  # noqa: BLE001  (what an answer left in it costs the log of this target only)
        report_defect(exc, "saving what was tried of a target")
        return msgspec.msgpack.encode(structs.replace(tried, attempts=bare_attempts(tried.attempts)))


def of_lanes(lanes: Sequence[int]) -> dict[int, Tried]:
    """Return what was tried of the targets of these lanes that have no result yet, by result id.

    What is kept of the others is removed, so that it does not grow with the run.
    """
    found: dict[int, Tried] = {}
    for batch in in_batches(lanes):
        rows = Waiting.objects.filter(lane__in=batch)
        rows.filter(Exists(Result.objects.filter(pk=OuterRef("pk")))).delete()
        for result, tried in rows.values_list("id", "tried"):
            try:
                found[result] = _decoder.decode(bytes(tried))
            except msgspec.DecodeError as exc:  # it begins anew
                report_defect(exc, "reading what was tried of a target")
    return found


def forget(run: int) -> None:
    """Remove what is kept of a run that is over."""
    Waiting.objects.filter(lane__in=Lane.objects.filter(run=run).values("id")).delete()
