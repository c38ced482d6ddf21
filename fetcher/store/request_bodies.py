"""Targets that have a body, and that nothing refers to any more, are removed: a body may hold a password.

Other targets stay (``fetcher.store.prune``). What refers to a target is a result, or a shard: of a run, or of any other
model that ``holds_targets``. Finding that out means reading every shard, which is done only where there is a target
with a body and without a result. Planners hold the targets with bodies that they find (``FOR KEY SHARE``), so none
vanishes between a planner's look and its commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import Exists, Model, OuterRef, QuerySet

from fetcher.models import Result, Shard, Target
from fetcher.store.plan import IdSet
from fetcher.store.prune import Pruned, Report
from fetcher.store.shards import decode_payload
from fetcher.store.sql import delete_rows, in_batches

_BATCH = 500
"""Targets in one transaction."""
_SHARDS = 100
"""Payloads in memory at once."""


def prune_request_bodies(pruned: Pruned, report: Report = lambda pruned: None) -> None:
    """Remove the targets that have a body and that no result and no shard refers to."""
    if not _without_results().exists():
        return
    kept = _Referenced()
    kept.read()
    after = 0
    while ids := list(_without_results().filter(id__gt=after).order_by("id").values_list("id", flat=True)[:_BATCH]):
        pruned.targets += _remove([pk for pk in ids if pk not in kept], kept)
        after = ids[-1]
        report(pruned)


def _without_results() -> QuerySet[Target]:
    return Target.objects.filter(~Exists(Result.objects.filter(target=OuterRef("pk"))), body__isnull=False)


def _remove(ids: list[int], kept: _Referenced) -> int:
    if not ids:
        return 0
    with transaction.atomic():
        # One that is locked is just being planned.
        rows = Target.objects.filter(id__in=ids).order_by("id")
        locked = list(rows.select_for_update(skip_locked=True).values_list("id", flat=True))
        kept.read()  # what was committed since
        going = [pk for pk in _without_results().filter(id__in=locked).values_list("id", flat=True) if pk not in kept]
        return delete_rows(Target, going)


class _Referenced:
    """The ids of the targets that shards refer to; ``read`` adds those of shards that are new."""

    def __init__(self) -> None:
        self._targets = IdSet()
        self._read: dict[type[Model], IdSet] = {}

    def __contains__(self, target: int) -> bool:
        return target in self._targets

    def read(self) -> None:
        # A run's shards last: they are copied from lists, and a list may go right after that.
        models: list[type[Model]] = [*_holders(), Shard]
        for model in models:
            read = self._read.setdefault(model, IdSet())
            rows: QuerySet[Any] = model._default_manager.order_by("id")
            fresh = [pk for pk in rows.values_list("id", flat=True).iterator(chunk_size=10_000) if pk not in read]
            for batch in in_batches(fresh, _SHARDS):
                for pk, stored in rows.filter(id__in=batch).values_list("id", "payload"):
                    for target in decode_payload(bytes(stored)).targets:
                        self._targets.add(target)
                    read.add(pk)


def _holders() -> Iterator[type[Model]]:
    for model in apps.get_models():
        if getattr(model, "holds_targets", False):
            yield model
