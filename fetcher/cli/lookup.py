"""What the asking commands have in common: how a run is named, and errors as one line."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator

from django.core.management.base import CommandError
from django.db import DatabaseError

from fetcher.bootstrap import ensure_database
from fetcher.database_errors import describe
from fetcher.models import Run
from fetcher.payloads import RunItem, run_items

LATEST = "latest"
_LARGEST = 2**63 - 1


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Run the block on a database that is ready; a database error is one line."""
    ensure_database()
    try:
        yield
    except DatabaseError as exc:
        raise CommandError(describe(exc)) from exc


def run_reference(text: str) -> int | None:
    """Read a run's number; ``latest`` gives None. For argparse."""
    if text == LATEST:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 0 < int(text) <= _LARGEST:
        raise argparse.ArgumentTypeError(f"must be a run's number or {LATEST}, not {text[:100]!r}")
    return int(text)


def find_run(reference: int | None) -> RunItem:
    """Return the run that a reference means. Raises CommandError where there is none."""
    runs = Run.objects.order_by("-id")[:1] if reference is None else Run.objects.filter(pk=reference)
    found = run_items(runs)
    if found:
        return found[0]
    if reference is None:
        raise CommandError("there is no run yet; manage.py fetch_urls makes one")
    raise CommandError(f"there is no run {reference}; manage.py runs list shows which there are")
