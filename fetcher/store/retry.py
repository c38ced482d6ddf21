"""The failed and skipped results of one run to the shards of another: the same targets, nothing is parsed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, Q, Sum

from fetcher.causes import Cause, any_of, parse_causes
from fetcher.database_errors import is_outage
from fetcher.engine.config import FetchConfig
from fetcher.engine.defects import report_defect
from fetcher.engine.references import RequestHeaders
from fetcher.headers import Sealed, load_headers
from fetcher.models import PLACES, Lane, RejectedLine, Result, Run, Shard, Target
from fetcher.options import RunOptions
from fetcher.secrets import UnsealError, unseal
from fetcher.sources import SourceError
from fetcher.sources.entry import redacted
from fetcher.store import runs
from fetcher.store.lanes import PlanLost, Planned, ShardWriter
from fetcher.store.shards import Secrets, decode_payload
from fetcher.store.sql import in_batches
from fetcher.texts import clean_text

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


class Asked(NamedTuple):
    """What a preview needs of a target: its host and its own headers."""

    host: str
    headers: RequestHeaders


def failed_targets(run: int, causes: Iterable[Cause]) -> Iterator[dict[bytes, Asked]]:
    """Yield the targets of ``failures`` by fingerprint, a window of results at a time. Raises UnsealError."""
    wanted, after = any_of(causes), 0
    while rows := failures(run, wanted, after=after, limit=WINDOW):
        after = rows[-1]["id"]
        results = {row["target_id"]: row["id"] for row in rows if row["wanted"]}
        _, secrets = _own(set(results.values()))
        found: dict[bytes, Asked] = {}
        for batch in in_batches(list(results)):
            columns = Target.objects.filter(id__in=batch).values_list("id", "fingerprint", "host", "headers")
            for pk, mark, host, headers in columns:
                own = load_headers(headers, secrets.get(results[pk], ()))
                # With a secret that is wiped they cannot be compared with those of the last good result.
                found[bytes(mark)] = Asked(host, () if any(value is None for _, value in own) else own)
        yield found


class RetryPlanner:
    """Plans one run that ``create_retry`` made, and goes on from what is committed of it.

    A call of ``add_more`` is one transaction: what it took is accepted when it returns. Where it raises a DatabaseError
    it may be called again: a commit of which only the answer was lost is recognized. What the database refuses because
    of one target is split, and that one is kept as a rejected line.
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
        self._parts: list[_Part] = []
        self.accepted: int = Lane.objects.filter(run=run).aggregate(planned=Sum("planned"))["planned"] or 0
        self.duplicates = row.duplicates
        self.rejected = row.rejected

    def add_more(self) -> Counter[str] | None:
        """Accept some more targets and return how many of each host, possibly none; None where there are no more.

        Raises PlanLost, SourceError where the other run is gone, UnsealError.
        """
        if not self._parts:
            rows = failures(self._parent, self._wanted, after=self._after, limit=WINDOW)
            if rows:
                self._parts = [_Part(rows)]
            elif Run.objects.filter(pk=self._parent).exists():
                return None
            else:
                text = f"run {self._parent}, whose failures were to be fetched again, was removed meanwhile"
                raise SourceError(text)
        part = self._parts[-1]
        number, after = len(part.rows), part.rows[-1]["id"]
        try:
            # Read outside of the transaction: what another run has recorded does not change.
            planned = [] if part.refused else _planned(part.rows)
            with transaction.atomic():
                self._shards.write(planned)
                # After the lanes, as whoever gives up a lane and ends its run locks them: no deadlock between the two.
                self._advance(part, after)
        except PlanLost:
            if not self._is_committed(number, after):
                raise
        except Exception as exc:
            if is_outage(exc) or isinstance(exc, UnsealError):
                raise
            self._parts[-1:] = part.split(exc)
            return Counter()
        self._parts.pop()
        self._read += number
        self._after = after
        self.accepted += len(planned)
        self.rejected += bool(part.refused)
        return Counter(item.host for item in planned)

    def _advance(self, part: _Part, after: int) -> None:
        ours = Run.objects.filter(pk=self.run, planner=self._worker, read=self._read)
        refused = int(bool(part.refused))
        if not ours.update(
            read=F("read") + len(part.rows), rejected=F("rejected") + refused, source_offset={"after": after}
        ):
            raise PlanLost(f"run {self.run} is planned by another worker")
        if refused:
            url = Target.objects.values_list("url", flat=True).get(pk=part.rows[0]["target_id"])
            RejectedLine.objects.create(
                run_id=self.run,
                source=f"run {self._parent}",
                line=part.rows[0]["position"] + 1,
                value=clean_text(redacted(url)),
                reason=part.refused,
            )

    def _is_committed(self, number: int, after: int) -> bool:
        row = Run.objects.values("planner", "read", "source_offset").filter(pk=self.run).first()
        return row == {"planner": self._worker, "read": self._read + number, "source_offset": {"after": after}}


class _Part(NamedTuple):
    """Rows of ``failures`` to account for in one transaction, or a single one and why it is ``refused``."""

    rows: list[dict[str, Any]]
    refused: str = ""

    def split(self, error: Exception) -> list[_Part]:
        """Return both halves, the first at the end, or a single row as refused. Raises where that failed as well."""
        middle = len(self.rows) // 2
        if middle:
            return [_Part(self.rows[middle:]), _Part(self.rows[:middle])]
        if self.refused:
            raise error
        return [_Part(self.rows, f"it cannot be stored: {report_defect(error, 'planning')}")]


def _planned(rows: list[dict[str, Any]]) -> list[Planned]:
    """Return the targets of those rows that were asked for. Raises UnsealError."""
    chosen = [row for row in rows if row["wanted"]]
    retries, secrets = _own({row["id"] for row in chosen})
    return [
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


def _own(results: set[int]) -> tuple[set[int], dict[int, Sealed]]:
    """Return which of these results' targets opt into retries, and what is left of their own secrets."""
    retries: set[int] = set()
    secrets: dict[int, Sealed] = {}
    for batch in in_batches(sorted({result // PLACES for result in results}), _SHARDS):
        for shard, stored in Shard.objects.filter(id__in=batch).values_list("id", "payload"):
            payload = decode_payload(bytes(stored))
            retries.update(results.intersection(shard * PLACES + place for place in payload.retries or ()))
            sealed = unseal(payload.sealed, Secrets) if payload.sealed else {}
            for place, values in sealed.items():
                if shard * PLACES + place in results:
                    secrets[shard * PLACES + place] = values
    return retries, secrets
