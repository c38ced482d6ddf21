"""What is known of a cluster's run whose slices fail: how many did in a row without a result in between, and why."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import F, Sum

from fetcher.models import Lane, Run
from fetcher.models.clock import database_now
from fetcher.texts import clean_text

SHOWN_FROM = 2
"""Failed slices in a row from which on a run is shown as one that needs a hand."""
MOST = 8
"""Failed slices in a row after which a run is ended as failed. More than quarantine needs to find a target that ends
processes: three takeovers and two strikes."""
_TOGETHER = timedelta(seconds=30)
"""Slices that fail within so long count as one: the run's other workers meet the same, and machines die as a whole."""
_REASON_SHOWN = 500
"""Characters."""


class Trouble(msgspec.Struct, frozen=True):
    """What ``Run.trouble`` holds. ``results`` is how many the run had at the last failure, which was ``at``.

    An ``outage`` of the database or a disk ends no run.
    """

    failures: int
    results: int
    at: datetime
    reason: str
    outage: bool = False

    def tell(self, now: datetime) -> str:
        """Return it as a line for people."""
        ago = max(0.0, (now - self.at).total_seconds())
        end = "" if self.outage else f"; after {MOST} of them the run ends as failed"
        return (
            f"{self.failures} slices in a row failed without saving a result, the last {ago:,.0f} s ago: "
            f"{self.reason}{end}"
        )


def note(run: int, reason: str, *, outage: bool = False) -> int:
    """Count a slice of a run that failed, and return how many have in a row; 0 where the cluster has no such run."""
    with transaction.atomic():
        row = Run.objects.select_for_update(no_key=True).filter(pk=run).of_cluster().first()
        if row is None:
            return 0
        now, results, before = database_now(), _results(run), _read(row.trouble)
        failures = 1
        if before is not None and before.results == results:
            failures = before.failures + (now - before.at > _TOGETHER)
        found = Trouble(failures, results, now, clean_text(reason)[:_REASON_SHOWN], outage)
        row.trouble = msgspec.to_builtins(found)
        row.save(update_fields=["trouble"])
    return failures


def forget(run: int) -> None:
    """Note that a slice ended as it should."""
    Run.objects.filter(pk=run, trouble__isnull=False).update(trouble=None)


def told_of(stored: Any, results: int) -> str | None:
    """Return what people should know of a run with this ``Run.trouble`` and so many results; None where it is well."""
    found = _read(stored)
    if found is None or found.failures < SHOWN_FROM or found.results != results:
        return None
    return found.tell(database_now())


def _read(stored: Any) -> Trouble | None:
    return None if stored is None else msgspec.convert(stored, Trouble)


def _results(run: int) -> int:
    counted = F("succeeded") + F("not_modified") + F("failed") + F("skipped")
    return Lane.objects.filter(run=run).aggregate(results=Sum(counted))["results"] or 0
