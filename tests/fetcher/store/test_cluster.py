"""The runs that the cluster has: which needs a worker most, and what becomes of one between two workers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone

from fetcher.conf import fetcher_settings
from fetcher.models import Lane, Run, RunState, Worker
from fetcher.store import cluster, leases, runs
from fetcher.store.record import Recorder
from tests.support.stored import open_targets, outcome, plan, record, side_by_side

OVER = [RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED]
URLS = [f"http://h{number}.example/" for number in range(6)]


def given(*urls: str, ago: float = 0) -> int:
    """Return a run that the cluster was told of so many seconds ago, planned to its end."""
    run = plan(*(urls or URLS))
    cluster.hand_over(run)
    told(run, ago)
    return run


def told(run: int, ago: float) -> None:
    Run.objects.filter(pk=run).update(woken_at=timezone.now() - timedelta(seconds=ago))


def planning(run: int) -> int:
    """Have a worker of this process read a run's source, and return it."""
    worker = leases.register_worker(run, sends=False)
    Run.objects.filter(pk=run).update(planned_at=None, planner=worker)
    return worker


def kill(worker: int) -> None:
    """Make a worker's row that of a process of this machine that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    Worker.objects.filter(pk=worker).update(pid=ended.pid, process_started=1)


def expire(worker: int) -> None:
    Worker.objects.filter(pk=worker).update(expires_at=timezone.now() - timedelta(seconds=1), hostname="elsewhere")


def finish_targets(run: int) -> None:
    record(run, map(outcome, open_targets(run)))


def state(run: int) -> RunState:
    return RunState(Run.objects.values_list("state", flat=True).get(pk=run))


def woken_at(run: int) -> datetime | None:
    return Run.objects.values_list("woken_at", flat=True).get(pk=run)


@pytest.mark.django_db
class TestHandOver:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (RunState.PENDING, RunState.PENDING),
            (RunState.INTERRUPTED, RunState.PENDING),
            (RunState.RUNNING, RunState.RUNNING),
        ],
    )
    def test_makes_a_run_the_cluster_s(self, before, after):
        run = plan(*URLS)
        Run.objects.filter(pk=run).update(state=before, finished_at=timezone.now())
        cluster.hand_over(run)
        row = Run.objects.get(pk=run)
        assert row.state == after
        assert row.woken_at is not None
        assert (row.finished_at is None) is (before == RunState.INTERRUPTED)
        assert list(Run.objects.of_cluster()) == [row]

    @pytest.mark.parametrize("over", OVER)
    def test_leaves_what_is_over(self, over):
        run = plan(*URLS)
        Run.objects.filter(pk=run).update(state=over)
        cluster.hand_over(run)
        assert (state(run), woken_at(run)) == (over, None)


@pytest.mark.django_db
class TestBegin:
    def test_registers_a_worker_and_the_run_has_begun(self):
        run = given()
        begun = cluster.begin(run, 8)
        row, worker = Run.objects.get(), Worker.objects.get()
        assert begun == (run, worker.pk)
        assert (row.state, worker.run_id, worker.sends) == (RunState.RUNNING, run, True)
        assert row.started_at is not None

    def test_keeps_when_it_began_first(self):
        run = given()
        cluster.begin(run, 8)
        began = Run.objects.get().started_at
        cluster.begin(run, 8)
        assert Run.objects.get().started_at == began

    @pytest.mark.parametrize(
        ("staff", "hint", "most", "chosen"),
        [
            pytest.param((0, 0, 0), 1, 8, 1, id="the one that was meant"),
            pytest.param((0, 0, 0), 99, 8, 0, id="the oldest, where the one that was meant is gone"),
            pytest.param((1, 1, 0), 0, 8, 2, id="one that has nobody before the one that was meant"),
            pytest.param((3, 2, 2), 0, 8, 1, id="one with fewer, and of two the older"),
            pytest.param((3, 2, 2), 2, 8, 2, id="one with fewer, and of two the one that was meant"),
            pytest.param((2, 2, 2), 0, 2, None, id="none, where all have as many as they may"),
            pytest.param((2, 1, 2), 0, 2, 1, id="the one that may have more"),
        ],
    )
    def test_takes_the_run_that_needs_one_most(self, staff, hint, most, chosen):
        of_cluster = [given() for _ in staff]
        for run, count in zip(of_cluster, staff, strict=True):
            for _ in range(count):
                leases.register_worker(run)
        begun = cluster.begin(of_cluster[hint] if hint < 3 else -1, most)
        assert (None if begun is None else of_cluster.index(begun[0])) == chosen

    @pytest.mark.parametrize("ended", [kill, expire])
    def test_counts_nobody_who_is_gone_and_nobody_who_only_reads(self, ended):
        run = given()
        ended(leases.register_worker(run))
        leases.register_worker(run, sends=False)
        assert cluster.begin(run, 1) is not None

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: plan(*URLS), id="not the cluster's"),
            pytest.param(lambda: _cancelled(given()), id="cancelled"),
            pytest.param(lambda: _finished(given()), id="nothing is left"),
            pytest.param(lambda: 99, id="there is none"),
        ],
    )
    def test_is_not_for_a_run_that_needs_none(self, make: Callable[[], int]):
        assert cluster.begin(make(), 8) is None
        assert not Worker.objects.exists()


def _cancelled(run: int) -> int:
    runs.cancel(run)
    return run


def _finished(run: int) -> int:
    finish_targets(run)
    return run


@pytest.mark.django_db(transaction=True)
class TestBeginAtOnce:
    def test_no_run_gets_more_workers_than_it_may_have(self):
        for _ in range(5):
            run = given()
            begun = side_by_side(*(partial(cluster.begin, run, 2) for _ in range(4)))
            assert sum(one is not None for one in begun) == 2
            assert Worker.objects.filter(run=run).count() == 2
            Run.objects.all().delete()
            Worker.objects.all().delete()

    def test_a_cancellation_at_the_same_time_finds_the_worker_or_there_is_none(self):
        for _ in range(5):
            run = given()
            begun, _ = side_by_side(partial(cluster.begin, run, 2), partial(runs.cancel, run))
            assert state(run) == RunState.CANCELLED
            if begun is not None:
                assert cluster.end(*begun, woken=False) is False
            assert Run.objects.get().finished_at is not None
            Run.objects.all().delete()
            Worker.objects.all().delete()

    def test_waits_for_who_begins_and_then_counts_him(self):
        """The second is held up at the run's row while the first has not committed."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time")
        run = given()
        inside, go_on = threading.Event(), threading.Event()

        def first() -> None:
            with transaction.atomic():
                assert cluster.begin(run, 1) is not None
                inside.set()
                go_on.wait(10)

        def second() -> tuple[int, int] | None:
            inside.wait(10)
            threading.Timer(0.3, go_on.set).start()
            return cluster.begin(run, 1)

        assert side_by_side(first, second)[1] is None
        assert Worker.objects.count() == 1


@pytest.mark.django_db
class TestEnd:
    def begun(self, *urls: str) -> tuple[int, int]:
        found = cluster.begin(given(*urls), 8)
        assert found is not None
        leases.lease_lanes(*found)
        return found

    def test_lets_go_of_everything(self):
        run, worker = self.begun()
        cluster.end(run, worker, woken=False)
        assert not Worker.objects.exists()
        assert not Lane.objects.exclude(worker=None).exists()

    def test_the_last_slice_completes_the_run(self):
        run, worker = self.begun()
        leases.let_go(worker)
        finish_targets(run)
        assert cluster.end(run, worker, woken=False) is False
        assert (state(run), woken_at(run)) == (RunState.COMPLETED, None)

    @pytest.mark.parametrize(
        ("woken", "others", "wanted"),
        [
            pytest.param(False, False, True, id="nobody was woken"),
            pytest.param(True, True, False, id="somebody was, and is there"),
            pytest.param(True, False, True, id="somebody was, and has come and gone, or is still to come"),
        ],
    )
    def test_somebody_is_to_be_woken_for_lanes_that_are_left(self, woken, others, wanted):
        run, worker = self.begun()
        if others:
            leases.register_worker(run)
        assert cluster.end(run, worker, woken=woken) is wanted
        assert state(run) == RunState.RUNNING

    def test_nobody_is_where_others_have_all_lanes(self):
        run, worker = self.begun()
        other = leases.register_worker(run)
        Lane.objects.update(worker=other)
        assert cluster.end(run, worker, woken=False) is False

    def test_nothing_is_ended_while_the_source_is_read(self):
        run, worker = self.begun()
        reader = planning(run)
        leases.let_go(worker)
        finish_targets(run)
        assert cluster.end(run, worker, woken=False) is False
        assert state(run) == RunState.RUNNING
        runs.planned(run)
        leases.let_go(reader)
        assert cluster.end_planning(run, reader) == RunState.COMPLETED

    @pytest.mark.parametrize("ended", [kill, expire])
    def test_a_run_whose_reader_is_gone_is_interrupted_once_nothing_is_left(self, ended):
        run, worker = self.begun()
        ended(planning(run))
        leases.let_go(worker)
        finish_targets(run)
        cluster.end(run, worker, woken=False)
        assert (state(run), woken_at(run)) == (RunState.INTERRUPTED, None)

    def test_the_last_worker_ends_a_cancelled_run(self):
        run, worker = self.begun()
        other = leases.register_worker(run)
        runs.cancel(run)
        assert cluster.end(run, worker, woken=False) is False
        assert Run.objects.get().inputs is None
        assert cluster.end(run, other, woken=False) is False
        assert state(run) == RunState.CANCELLED

    def test_a_run_that_somebody_resumed_is_theirs(self):
        run, worker = self.begun()
        Run.objects.update(woken_at=None)
        assert cluster.end(run, worker, woken=False) is False
        assert state(run) == RunState.RUNNING

    def test_a_run_that_was_removed_is_no_matter(self):
        run, worker = self.begun()
        Run.objects.all().delete()
        assert cluster.end(run, worker, woken=False) is False
        assert cluster.is_over(run)

    def test_does_not_undo_what_somebody_did_who_was_faster(self, monkeypatch):
        """Between two looks at the run it ended, and somebody began to read more for it."""
        run, worker = self.begun()
        leases.let_go(worker)
        finish_targets(run)
        pending = runs.pending

        def resumed_meanwhile(pk: int) -> int:
            left = pending(pk)
            Run.objects.update(state=RunState.RUNNING, planner=leases.register_worker(run), woken_at=None)
            return left

        monkeypatch.setattr(runs, "pending", resumed_meanwhile)
        cluster.end(run, worker, woken=False)
        assert (state(run), Run.objects.get().planner is None) == (RunState.RUNNING, False)


@pytest.mark.django_db(transaction=True)
def test_two_slices_that_end_at_once_complete_the_run():
    for _ in range(5):
        run = given()
        first, second = cluster.begin(run, 8), cluster.begin(run, 8)
        assert first is not None
        assert second is not None
        Lane.objects.filter(run=run).update(worker=first[1])
        Recorder(*first, fetcher_settings()).record([outcome(target) for target in open_targets(run)])
        told(run, 2 * cluster.UNHEARD.total_seconds())
        side_by_side(
            partial(cluster.end, *first, woken=False), partial(cluster.end, *second, woken=True), cluster.sweep
        )
        assert (state(run), woken_at(run)) == (RunState.COMPLETED, None)
        assert not Worker.objects.exists()


@pytest.mark.django_db
class TestPlanning:
    def test_a_run_that_is_read_is_the_cluster_s_from_the_first(self):
        run = runs.create_run(_config())
        worker = leases.register_worker(run, sends=False)
        cluster.begin_planning(run, worker)
        row = Run.objects.get()
        assert (row.state, row.planner) == (RunState.PENDING, worker)
        assert cluster.is_read(run)

    @pytest.mark.parametrize("ended", [kill, expire, leases.let_go])
    def test_it_is_read_no_more_once_its_reader_is_gone(self, ended):
        run = given()
        worker = planning(run)
        assert cluster.is_read(run)
        ended(worker)
        assert not cluster.is_read(run)

    def test_nor_once_it_is_planned_or_there_is_no_such_run(self):
        run = given()
        planning(run)
        runs.planned(run)
        assert not cluster.is_read(run)
        assert not cluster.is_read(99)

    @pytest.mark.parametrize(
        ("read", "left", "ended"),
        [
            pytest.param(True, False, RunState.COMPLETED, id="to the end, and all is fetched"),
            pytest.param(False, False, RunState.INTERRUPTED, id="in part, and what was accepted is fetched"),
            pytest.param(True, True, RunState.PENDING, id="to the end, and something is left"),
            pytest.param(False, True, RunState.PENDING, id="in part, and something is left"),
        ],
    )
    def test_its_end_is_the_run_s_where_nothing_is_left(self, read, left, ended):
        run = given()
        worker = planning(run)
        if not left:
            finish_targets(run)
        if read:
            runs.planned(run)
        leases.let_go(worker)
        assert cluster.end_planning(run, worker) == ended
        assert Run.objects.get().planner is None

    def test_its_end_is_no_other_reader_s(self):
        run = given()
        planning(run)
        cluster.end_planning(run, 99)
        assert cluster.is_read(run)

    def test_its_end_leaves_a_run_that_is_not_the_cluster_s_any_more(self):
        run = given()
        worker = planning(run)
        finish_targets(run)
        Run.objects.update(state=RunState.RUNNING, woken_at=None)
        leases.let_go(worker)
        assert cluster.end_planning(run, worker) == RunState.RUNNING

    @pytest.mark.parametrize(("staff", "done", "neglected"), [(0, False, True), (1, False, False), (0, True, False)])
    def test_a_run_with_work_and_nobody_is_neglected(self, staff, done, neglected):
        run = given()
        planning(run)
        for _ in range(staff):
            leases.register_worker(run)
        if done:
            finish_targets(run)
        assert cluster.is_neglected(run) is neglected


def _config():
    from fetcher.engine.config import FetchConfig

    return FetchConfig()


@pytest.mark.django_db
class TestFreeLanes:
    @pytest.mark.parametrize(("held", "free"), [(0, True), (5, True), (6, False)])
    def test_are_those_of_open_targets_that_nobody_has(self, held, free):
        run, worker = given(), leases.register_worker()
        for lane in Lane.objects.all()[:held]:
            Lane.objects.filter(pk=lane.pk).update(worker=worker)
        assert Lane.objects.count() == 6
        assert cluster.has_free_lanes(run) is free

    def test_are_none_of_what_is_done(self):
        assert not cluster.has_free_lanes(_finished(given()))


@pytest.mark.django_db
class TestFail:
    def test_ends_the_run_with_the_reason(self):
        found = cluster.begin(given(), 8)
        assert found is not None
        cluster.fail(*found, "TOKEN is not set")
        row = Run.objects.get()
        assert (row.state, row.error, row.woken_at) == (RunState.FAILED, "TOKEN is not set", None)
        assert not Worker.objects.exists()
        assert cluster.is_over(row.pk)


@pytest.mark.django_db
class TestSweep:
    LONG = cluster.UNHEARD.total_seconds() + 1

    @pytest.fixture
    def run(self) -> Iterator[int]:
        return given(ago=self.LONG)

    def test_finds_a_run_with_work_and_nobody_that_was_told_of_long_ago(self, run):
        assert cluster.sweep() == [run]

    def test_finds_it_also_where_a_clock_was_set(self, run):
        told(run, -3600)
        assert cluster.sweep() == [run]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda run: told(run, 1), id="a worker was woken a moment ago"),
            pytest.param(leases.register_worker, id="somebody works on it"),
            pytest.param(lambda run: Run.objects.update(woken_at=None), id="it is not the cluster's"),
            pytest.param(_cancelled, id="it is cancelled"),
        ],
    )
    def test_leaves_a_run_that_is_looked_after(self, run, change):
        change(run)
        assert cluster.sweep() == []
        assert state(run) != RunState.COMPLETED

    @pytest.mark.parametrize("ended", [kill, expire])
    def test_a_worker_that_is_gone_does_not_look_after_anything(self, run, ended):
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        ended(worker)
        assert cluster.sweep() == [run]

    def test_who_only_reads_fetches_nothing(self, run):
        planning(run)
        assert cluster.sweep() == [run]

    def test_ends_what_is_done(self, run):
        finish_targets(run)
        assert cluster.sweep() == []
        assert state(run) == RunState.COMPLETED

    def test_does_not_end_what_is_still_read(self, run):
        planning(run)
        finish_targets(run)
        assert cluster.sweep() == []
        assert state(run) == RunState.PENDING

    def test_names_each_once_while_it_is_told_of(self, run):
        for found in cluster.sweep():
            cluster.hand_over(found)
        assert cluster.sweep() == []


@pytest.mark.django_db
class TestStarving:
    @pytest.mark.parametrize(
        ("change", "starving"),
        [
            pytest.param(lambda run: None, True, id="another has work and nobody"),
            pytest.param(leases.register_worker, False, id="another has somebody"),
            pytest.param(partial(leases.register_worker, sends=False), True, id="another has somebody who only reads"),
            pytest.param(finish_targets, False, id="another has no work"),
            pytest.param(_cancelled, False, id="another is cancelled"),
            pytest.param(lambda run: Run.objects.filter(pk=run).update(woken_at=None), False, id="not the cluster's"),
        ],
    )
    def test_is_said_of_another_run_with_work_and_nobody(self, change, starving):
        mine, other = given(), given()
        leases.register_worker(mine)
        change(other)
        assert cluster.starving(mine) is starving

    def test_is_not_said_of_ones_own(self):
        assert not cluster.starving(given())
