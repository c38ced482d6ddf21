"""Reading from async code."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.db import connection

from fetcher.api.db import POOL, in_thread
from fetcher.models import Run
from tests.rows import make_run

pytestmark = pytest.mark.django_db(transaction=True)


def test_sees_what_was_committed():
    run = make_run()
    assert asyncio.run(in_thread(Run.objects.get, pk=run.pk)) == run


def test_reads_side_by_side():
    meeting = threading.Barrier(2, timeout=10)

    async def both() -> None:
        await asyncio.gather(in_thread(meeting.wait), in_thread(meeting.wait))

    asyncio.run(both())  # one thread alone would wait until the barrier breaks


def test_leaves_no_connection_open():
    asyncio.run(in_thread(Run.objects.count))
    open_ones = {POOL.submit(lambda: connection.connection is not None).result() for _ in range(8)}
    assert open_ones == {False}


def test_hands_errors_on():
    with pytest.raises(Run.DoesNotExist):
        asyncio.run(in_thread(Run.objects.get, pk=1))
