"""``runs cancel``: nothing more of a run is fetched, wherever that is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from fetcher.cli.lookup import find_run
from fetcher.cli.text import count
from fetcher.models import OVER, RunState
from fetcher.store import runs

PATIENCE = 10.0
"""Seconds for which the end of a run's workers is waited for."""
_LOOK = 0.2


def cancel_run(stream: TextIO, reference: int | None, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Cancel a run, wait for the end of its workers and say what is left; return what is wrong, or nothing.

    Raises CommandError for a run that is not there.
    """
    found = find_run(reference)
    before = runs.cancel(found.id)
    if before in OVER:
        return f"run {found.id} is {before}: there is nothing to cancel"
    left = round(PATIENCE / _LOOK)
    while (working := runs.has_workers(found.id)) and left:
        left -= 1
        sleep(_LOOK)
    now = find_run(found.id)
    was = found.state if found.state != RunState.CANCELLED else before
    text = f"run {now.id} is cancelled; it was {was}. {count(now.total - now.pending)} of "
    text += f"{count(now.total, 'target')} have a result, {count(now.pending)} stay pending"
    if working:
        text += "; some of its workers were not heard of yet, and stop as soon as they look"
    stream.write(f"{text}\n")
    return ""
