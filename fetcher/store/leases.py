"""Workers, and the lanes that they hold.

A lane is taken by one conditional UPDATE of lanes that nobody holds, or whose holder has not renewed in time. Whoever's
UPDATE counted the row has it. Recording checks the same column, so a worker that lost a lane cannot record into it.
"""

from __future__ import annotations

import os
import socket
import uuid
from datetime import timedelta
from pathlib import Path

from django.db.models import F
from django.utils import timezone

from fetcher.models import Lane, Worker

LEASE = timedelta(seconds=60)
"""How long a worker's lanes stay its own without a renewal."""
RENEWAL = 15.0
"""Seconds between renewals."""


def register_worker() -> int:
    """Add a row for this process and return its id."""
    worker = Worker.objects.create(
        token=uuid.uuid4(),
        hostname=socket.gethostname()[:255],
        boot_id=_boot_id(),
        pid=os.getpid(),
        expires_at=timezone.now() + LEASE,
    )
    return worker.pk


def renew(worker: int) -> None:
    """Renew the lease of every lane that the worker holds."""
    Worker.objects.filter(pk=worker).update(expires_at=timezone.now() + LEASE)


def lease_lanes(run: int, worker: int) -> list[int]:
    """Take all free lanes of a run and return the ids of the lanes that the worker now holds."""
    # Conditions on the lane's own columns only: PostgreSQL checks them again after waiting for another's update of the
    # row, which it would not do for a subquery on workers.
    expired = list(Worker.objects.filter(expires_at__lt=timezone.now()).exclude(pk=worker).values_list("id", flat=True))
    lanes = Lane.objects.filter(run=run)
    lanes.filter(worker__isnull=True).update(worker=worker)
    if expired:
        lanes.filter(worker__in=expired).update(worker=worker, takeovers=F("takeovers") + 1)
    return list(Lane.objects.filter(run=run, worker=worker).order_by("number").values_list("id", flat=True))


def let_go(worker: int) -> None:
    """Give up all lanes of a worker and remove its row."""
    Lane.objects.filter(worker=worker).update(worker=None)
    Worker.objects.filter(pk=worker).delete()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: the host name alone tells machines apart
        return ""
