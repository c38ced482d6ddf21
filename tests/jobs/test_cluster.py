"""The queue as the fetcher's dispatcher."""

from __future__ import annotations

import os
import uuid

import pytest

from fetcher.machine import this_process
from jobs.cluster import QCluster
from jobs.models import Cluster

pytestmark = pytest.mark.django_db


def guard(**changes: object) -> None:
    """Note a cluster whose guard is this process's parent, as for a worker."""
    here = this_process()
    values = {
        "token": uuid.uuid4(),
        "hostname": here.hostname,
        "boot_id": here.boot,
        "pid": os.getppid(),
        "main_pid": 1,
        "stopping": True,
    }
    Cluster.objects.create(**{**values, **changes})


class TestEnding:
    def test_is_what_the_guard_of_this_process_noted(self):
        guard()
        assert QCluster().is_ending()

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"stopping": False}, id="not asked to"),
            pytest.param({"pid": 1}, id="another guard"),
            pytest.param({"hostname": "elsewhere"}, id="another machine"),
            pytest.param({"boot_id": "before"}, id="before the machine was started"),
        ],
    )
    def test_is_nobody_elses(self, changes):
        guard(**changes)
        assert not QCluster().is_ending()

    def test_is_not_so_where_no_cluster_is_known(self):
        assert not QCluster().is_ending()
