"""Reads that must stay fast in a run of millions."""

from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fetcher.machine import this_process
from fetcher.models import PLACES, Lane, Result, Run, RunState, Worker
from fetcher.models.results import _stretches
from tests.rows import make_result, make_run, make_shard


@pytest.mark.parametrize(
    ("ids", "stretches"),
    [([5], [(5, 5)]), ([2, 3, 4, 7], [(2, 4), (7, 7)]), ([1, 3, 5], [(1, 1), (3, 3), (5, 5)])],
)
def test_stretches_are_neighbouring_ids(ids, stretches):
    assert list(_stretches(ids)) == stretches


@pytest.fixture
def interleaved(db):
    """Two runs whose shards alternate: 30 shards of 3 results each, on 3 hosts; every fifth result failed."""
    runs = make_run(), make_run()
    count = 0
    for number in range(30):
        for run in runs:
            host = f"{'abc'[number % 3]}.example"
            shard = make_shard(run, f"{host}:443")
            for place in range(3):
                count += 1
                status = "failed" if count % 5 == 0 else "succeeded"
                make_result(run, f"https://{host}/{number}/{place}", shard=shard, status=status)
    return runs[0]


FILTERS = [{}, {"hosts": ["b.example:443"]}, {"unsuccessful": True}, {"hosts": ["b.example:443"], "unsuccessful": True}]


def expected(run, hosts=(), unsuccessful=False) -> list[int]:
    rows = Result.objects.filter(run=run).order_by("id")
    if hosts:
        rows = rows.filter(target__host__in=hosts)
    if unsuccessful:
        rows = rows.filter(error_kind__isnull=False)
    return list(rows.values_list("id", flat=True))


class TestPage:
    @pytest.mark.parametrize("filters", FILTERS)
    @pytest.mark.parametrize("limit", [1, 4, 1000])
    def test_pages_meet_without_gap_or_overlap(self, interleaved, filters, limit):
        seen: list[int] = []
        while page := Result.objects.page(interleaved.pk, after=seen[-1] if seen else 0, limit=limit, **filters):
            assert len(page) <= limit
            seen += page
        assert seen == expected(interleaved.pk, **filters)

    def test_keeps_the_filters_of_the_queryset(self, interleaved):
        page = Result.objects.filter(http_status=404).page(interleaved.pk, limit=10)
        assert page == []

    def test_of_a_run_without_shards_is_empty(self, db):
        assert Result.objects.page(make_run().pk, limit=10) == []

    def test_may_start_after_any_id(self, interleaved):
        after = interleaved.shards.last().pk * PLACES + PLACES - 1
        assert Result.objects.page(interleaved.pk, after=after, limit=10) == []

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's query plans")
    @pytest.mark.parametrize("filters", FILTERS)
    def test_never_scans_a_table(self, interleaved, filters):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            Result.objects.page(interleaved.pk, limit=50, **filters)
        assert captured.captured_queries
        for query in captured.captured_queries:
            plan = [row[3] for row in connection.cursor().execute(f"EXPLAIN QUERY PLAN {query['sql']}").fetchall()]
            assert [step for step in plan if step.startswith("SCAN")] == [], query["sql"]
            assert [step for step in plan if "TEMP B-TREE" in step] == [], query["sql"]

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's query plans")
    def test_finds_failures_by_their_index(self, interleaved):
        with CaptureQueriesContext(connection) as captured:
            Result.objects.page(interleaved.pk, limit=50, unsuccessful=True)
        [query] = captured.captured_queries
        plan = connection.cursor().execute(f"EXPLAIN QUERY PLAN {query['sql']}").fetchall()
        assert "fetcher_result_bad" in plan[0][3]


@pytest.mark.django_db
class TestShownState:
    """A run whose workers are gone is interrupted, and nobody has to write that down."""

    def worker(self, *, left: float, **values) -> Worker:
        now = timezone.now()
        return Worker.objects.create(
            token=uuid.uuid4(),
            **{"hostname": "elsewhere", "pid": 1, **values},
            expires_at=now + timedelta(seconds=left),
        )

    def run(self, state: str = "running", **values) -> Run:
        now = timezone.now()
        return make_run(
            state=state, created_at=now - timedelta(seconds=2), started_at=now + timedelta(seconds=2), **values
        )

    def shown(self, run: Run) -> str:
        state = Run.objects.filter(pk=run.pk).with_shown_state().get().shown_state
        assert [Run.objects.in_state(other).filter(pk=run.pk).exists() for other in RunState.values] == [
            other == state for other in RunState.values
        ]
        return state

    def test_is_running_while_a_worker_holds_a_lane(self):
        run = self.run()
        Lane.objects.create(run=run, number=1, worker=self.worker(left=30))
        Lane.objects.create(run=run, number=2, worker=self.worker(left=-30))
        assert self.shown(run) == "running"

    @pytest.mark.parametrize("worker", ["none", "expired"])
    def test_is_interrupted_where_no_worker_is_left(self, worker):
        run = self.run()
        Lane.objects.create(run=run, number=1, worker=None if worker == "none" else self.worker(left=-1))
        assert self.shown(run) == "interrupted"
        run.refresh_from_db()
        assert run.state == "running"

    def test_is_running_before_the_first_lane(self):
        run = self.run()
        self.worker(left=30, run=run)
        assert self.shown(run) == "running"

    def test_is_interrupted_as_soon_as_its_process_has_ended(self):
        run, here = self.run(), this_process()
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        process = {"hostname": here.hostname, "boot_id": here.boot}
        Lane.objects.create(run=run, number=1, worker=self.worker(left=30, pid=ended.pid, **process))
        assert self.shown(run) == "interrupted"
        self.worker(left=30, pid=here.pid, process_started=here.started, run=run, **process)
        assert self.shown(run) == "running"

    def test_is_not_kept_running_by_another_runs_worker(self):
        run, other = self.run(), self.run()
        Lane.objects.create(run=other, number=1, worker=self.worker(left=30))
        self.worker(left=30)
        assert self.shown(run) == "interrupted"

    @pytest.mark.parametrize("state", ["pending", "completed", "interrupted", "cancelled", "failed"])
    def test_is_the_rows_own_otherwise(self, state):
        assert self.shown(self.run(state)) == state
