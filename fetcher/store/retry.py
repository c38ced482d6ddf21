"""The failed and skipped results of one run to the shards of another: the same targets, nothing is parsed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import F, Q, Sum

from fetcher.causes import Cause, any_of, parse_causes
from fetcher.engine.config import FetchConfig
from fetcher.models import PLACES, Lane, Result, Run, Shard
from fetcher.options import RunOptions
from fetcher.secrets import unseal
from fetcher.sources import SourceError
from fetcher.store import runs
from fetcher.store.lanes import PlanLost, Planned, ShardWriter
from fetcher.store.shards import Secrets, decode_payload
from fetcher.store.sql import in_batches

WINDOW = 4_000
"""Failed results that one transaction accounts for. All of them are looked at, whatever their cause: a transaction over
a rare cause stays short."""
_SHARDS = 100
"""Payloads in memory at once."""
KIND = "retry"


def create_retry(
    parent: int, causes: Sequence[Cause], config: FetchConfig, options: RunOptions, *, label: str = ""
) -> int:
    """Add a pending run over what failed in another by these causes (none: by any) and return its id."""
    by = f" ({', '.join(map(str, causes))})" if causes else ""
    return runs.create_run(
        config,
        options,
        label=label,
        source=f"failures of run {parent}{by}",
        parent=parent,
        inputs=[{"kind": KIND, "run": parent, "causes": [str(cause) for cause in causes]}],
    )


def is_retry(inputs: list[Any] | None) -> bool:
    """Whether a run's inputs are the failures of another."""
    return inputs is not None and any(source.get("kind") == KIND for source in inputs)


def has_failures(run: int, causes: Iterable[Cause]) -> bool:
    """Whether any result of a run failed or was skipped by one of the causes (none: by any)."""
    return Result.objects.unsuccessful().filter(any_of(causes), run=run).exists()


def failures(run: int, wanted: Q, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` failed or skipped results of a run after the id ``after``, in id order.

    Read by the index on them; ``wanted`` is a column that says whether a row is among those that were asked for.
    """
    results = Result.objects.unsuccessful().filter(run=run, id__gt=after).order_by("id")
    columns = ("id", "target_id", "position", "label", "target__host")
    return list(results.values(*columns, wanted=wanted)[:limit])


class RetryPlanner:
    """Plans one run that ``create_retry`` made, and goes on from what is committed of it.

    A call of ``add_more`` is one transaction: what it took is accepted when it returns. Where it raises a DatabaseError
    it may be called again: a commit of which only the answer was lost is recognized.
    """

    def __init__(self, run: int, worker: int | None = None, *, split: int = 1) -> None:
        row = Run.objects.only("inputs", "read", "source_offset", "duplicates", "rejected").get(pk=run)
        [source] = row.inputs or []
        self.run = run
        self._worker = worker
        self._parent: int = source["run"]
        self._wanted = any_of(cause for text in source["causes"] for cause in parse_causes(text))
        self._read = row.read
        self._after: int = (row.source_offset or {}).get("after", 0)
        self._shards = ShardWriter(run, split)
        self._next: tuple[list[Planned], int, int] | None = None
        self.accepted: int = Lane.objects.filter(run=run).aggregate(planned=Sum("planned"))["planned"] or 0
        self.duplicates = row.duplicates
        self.rejected = row.rejected

    def add_more(self) -> Counter[str] | None:
        """Accept some more targets and return how many of each host, possibly none; None where there are no more.

        Raises PlanLost, SourceError where the other run is gone, UnsealError.
        """
        if self._next is None:
            self._next = self._read_more()
        if self._next is None:
            if not Run.objects.filter(pk=self._parent).exists():
                raise SourceError(f"run {self._parent}, whose failures were to be fetched again, was removed meanwhile")
            return None
        planned, number, after = self._next
        try:
            with transaction.atomic():
                self._shards.write(planned)
                # After the lanes, as whoever gives up a lane and ends its run locks them: no deadlock between the two.
                self._advance(number, after)
        except PlanLost:
            if not self._is_committed(number, after):
                raise
        self._next = None
        self._read += number
        self._after = after
        self.accepted += len(planned)
        return Counter(item.host for item in planned)

    def _advance(self, number: int, after: int) -> None:
        ours = Run.objects.filter(pk=self.run, planner=self._worker, read=self._read)
        if not ours.update(read=F("read") + number, source_offset={"after": after}):
            raise PlanLost(f"run {self.run} is planned by another worker")

    def _is_committed(self, number: int, after: int) -> bool:
        row = Run.objects.values("planner", "read", "source_offset").filter(pk=self.run).first()
        return row == {"planner": self._worker, "read": self._read + number, "source_offset": {"after": after}}

    def _read_more(self) -> tuple[list[Planned], int, int] | None:
        """Return the next targets, how many results they were chosen from, and the last of these.

        Read outside of the transaction: what another run has recorded does not change.
        """
        rows = failures(self._parent, self._wanted, after=self._after, limit=WINDOW)
        if not rows:
            return None
        chosen = [row for row in rows if row["wanted"]]
        retries, secrets = _own({row["id"] for row in chosen})
        planned = [
            Planned(
                row["target_id"],
                row["target__host"],
                row["position"],
                row["label"],
                row["id"] in retries,
                secrets.get(row["id"], ()),
            )
            for row in chosen
        ]
        return planned, len(rows), rows[-1]["id"]


def _own(results: set[int]) -> tuple[set[int], dict[int, tuple[str, ...]]]:
    """Return which of these results' targets opt into retries, and what is left of their own secrets."""
    retries: set[int] = set()
    secrets: dict[int, tuple[str, ...]] = {}
    for batch in in_batches(sorted({result // PLACES for result in results}), _SHARDS):
        for shard, stored in Shard.objects.filter(id__in=batch).values_list("id", "payload"):
            payload = decode_payload(bytes(stored))
            retries.update(results.intersection(shard * PLACES + place for place in payload.retries or ()))
            sealed = unseal(payload.sealed, Secrets) if payload.sealed else {}
            for place, values in sealed.items():
                if shard * PLACES + place in results:
                    secrets[shard * PLACES + place] = values
    return retries, secrets
