"""What earlier runs know of targets that may be fetched, without planning a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fetcher.engine.references import RequestHeaders
from fetcher.models import Result
from fetcher.store.shards import NEWEST_GOOD, has_condition, load_previous, validators_for
from fetcher.store.sql import in_batches, rows_among

_NEWEST = f"""WITH t AS (SELECT id, fingerprint FROM fetcher_target WHERE fingerprint {{among}})
SELECT fingerprint, {NEWEST_GOOD} FROM t"""
_NO_RUN = 0


@dataclass(frozen=True, slots=True)
class Known:
    """A target's newest good result: its id, and whether its validators would be sent."""

    result: int
    conditional: bool


def known_targets(
    wanted: Mapping[bytes, RequestHeaders], variant_of: Callable[[RequestHeaders], bytes]
) -> dict[bytes, Known]:
    """Return what is known of the targets with these fingerprints; one that never succeeded is not among them.

    ``wanted`` has the targets' own headers.
    """
    found: dict[bytes, Known] = {}
    for marks in in_batches(list(wanted)):
        rows = rows_among(_NEWEST, marks, _NO_RUN)
        newest = {mark: pk for mark, pk in rows if pk is not None}
        previous = load_previous(list(newest.values()))
        for mark, pk in newest.items():
            own = wanted[mark]
            validators = None if has_condition(own) else validators_for(previous.get(pk), variant_of(own))
            found[mark] = Known(pk, validators is not None)
    return found


def elapsed(results: list[int]) -> dict[int, float]:
    """Return the seconds that these results took, waits included."""
    found: dict[int, float] = {}
    for batch in in_batches(results):
        for pk, microseconds in Result.objects.filter(id__in=batch).values_list("id", "elapsed_us"):
            found[pk] = microseconds / 1_000_000
    return found
