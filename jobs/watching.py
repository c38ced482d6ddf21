"""Keeps the sweep scheduled: a thread of each of the cluster's workers looks once a minute.

The sweep looks after everything else, but it comes by a schedule in django-q2's table. Somebody may delete that; the
tables may have been migrated before there was a sweep; after a clock was a day ahead for a while it is due in a day;
and a schedule that django-q2 cannot read, changed by hand, stops all of them. A queue where nothing goes off wakes
nobody who could see to it, so it must be somebody who goes by no schedule.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import connections
from django.utils import timezone

from jobs.timers import ensure_sweep, mend_alarms, unreadable

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks."""


def watch(**kwargs: Any) -> threading.Thread:
    """Begin to look, for as long as this process lives; a receiver of django-q2's ``post_spawn``."""
    thread = threading.Thread(target=_look, args=(threading.Event().wait,), name="trawl-watch", daemon=True)
    thread.start()
    return thread


def _look(wait: Callable[[float], bool]) -> None:
    while True:
        try:
            if ensure_sweep():
                _find_out()
        except Exception as exc:  # noqa: BLE001  (whatever it is: it must not end with the first outage)
            log.warning("whether the sweep is scheduled could not be seen: %s", exc)
        finally:
            connections.close_all()  # this thread's; for a minute nobody needs one
        if wait(EVERY):
            return


def _find_out() -> None:
    """Nobody came for the sweep: mend what may stop the scheduler, or tell of it."""
    now = timezone.now()
    mend_alarms(now)
    for schedule in unreadable(now):
        log.error(
            "the queue's schedule %s cannot be read, and stops all others: correct or delete it under /admin/", schedule
        )
