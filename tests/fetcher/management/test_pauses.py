"""A Retry-After that one command is told, and another one at the same time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from fetcher.models import HostPause, Run, RunState
from tests.support.commands import manage, start

pytestmark = pytest.mark.django_db(transaction=True)

ALLOW = ("--allow-network", "127.0.0.1/32", "--progress", "none")


def test_is_kept_by_a_process_that_was_not_told(threaded_origin):
    """The second asks the same host again and again; it leaves it alone for seconds that it was never told of."""
    steady = [threaded_origin.url(f"/ok/{number}") for number in range(60)]
    second = start("fetch_urls", *steady, "--host-delay", "0.1", *ALLOW)
    try:
        end = time.monotonic() + 30
        while not threaded_origin.log and time.monotonic() < end:
            time.sleep(0.01)
        first = manage("fetch_urls", threaded_origin.url("/retry-after/1?seconds=4"), *ALLOW)
        assert first.returncode == 0, first.stderr
        assert second.wait(60) == 0
    finally:
        second.kill()
        second.communicate()
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.COMPLETED}
    began = [entry.started for entry in threaded_origin.log if entry.path.startswith("/ok/")]
    assert len(began) == 60
    assert max(later - earlier for earlier, later in pairwise(began)) > 2
    assert HostPause.objects.count() == 1
