"""What is told of the cluster, and what looks wrong."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.models import Schedule as Alarm
from django_q.tasks import async_task

from fetcher.machine import this_process
from fetcher.models import Lane, Run, RunState, Worker
from fetcher.store import cluster, leases, trouble
from jobs import timers
from jobs.models import Cluster
from jobs.schedules import Kind, Schedule
from jobs.status import cluster_status
from tests.support.jobs import make_job
from tests.support.processes import free_port
from tests.support.redis import use_redis
from tests.support.stored import plan

pytestmark = pytest.mark.django_db
HOURLY = Schedule(kind=Kind.EVERY, every=60)


def ago(seconds: float):
    return timezone.now() - timedelta(seconds=seconds)


def make_cluster(*, workers: int = 2, seen: float = 1, machine: str = "other", **values) -> Cluster:
    return Cluster.objects.create(
        token=uuid.uuid4(),
        hostname=machine,
        pid=2,
        main_pid=1,
        workers=workers,
        seen_at=ago(seen),
        started_at=ago(3600),
        **values,
    )


def make_message(seconds: float) -> None:
    async_task("jobs.tasks.work", 1)
    OrmQ.objects.update(lock=ago(seconds))


@pytest.fixture
def healthy():
    make_cluster()
    timers.ensure_sweep()
    Alarm.objects.filter(func=timers.SWEEP).update(next_run=ago(10))


def problems(**options) -> list[str]:
    return cluster_status(**options).problems


class TestHealthy:
    def test_has_no_problem(self, healthy):
        status = cluster_status()
        assert status.problems == []
        assert [(cluster.machine, cluster.pid, cluster.state) for cluster in status.clusters] == [
            ("other", 1, "working")
        ]

    def test_shows_who_works_and_on_what(self, healthy):
        run = plan("http://a/1", "http://b/2")
        cluster.hand_over(run)
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        status = cluster_status()
        (found,), (shown,) = status.workers, status.runs
        assert (found.run, found.lanes, found.ended, status.busy) == (run, 2, False, 1)
        assert 50 < found.lease_s <= 60
        assert (shown.id, shown.pending, shown.total, shown.workers) == (run, 2, 2, 1)
        assert status.problems == []

    def test_passes_over_workers_that_left_nothing(self, healthy):
        Worker.objects.filter(pk=leases.register_worker()).update(expires_at=ago(1))
        assert cluster_status().workers == []

    def test_shows_when_jobs_are_due(self, healthy):
        job = make_job(schedule=HOURLY)
        timers.set_alarm(job)
        (alarm,) = cluster_status().alarms
        assert (alarm.job, alarm.late_s) == ("news", None)

    def test_that_cannot_see_clusters_does_not_miss_them(self, healthy, monkeypatch):
        Cluster.objects.all().delete()
        monkeypatch.setattr(Conf, "BROKER_CLASS", None)
        status = cluster_status()
        assert (status.clusters, status.problems) == (None, [])


class TestProblem:
    def test_a_run_whose_slices_fail_one_after_the_other(self, healthy, monkeypatch):
        monkeypatch.setattr(trouble, "_TOGETHER", timedelta())
        run = plan("http://a/1")
        cluster.hand_over(run)
        trouble.note(run, "RuntimeError while working on a slice")
        assert problems() == []
        trouble.note(run, "RuntimeError while working on a slice")
        (line,) = problems()
        assert line.startswith(
            f"run {run}: 2 slices in a row failed without saving a result, the last 0 s ago: RuntimeE"
        )
        assert line.endswith("; after 8 of them the run ends as failed")

    @pytest.mark.parametrize(
        ("skew", "said"),
        [
            (3600.4, "the clock of other is 3,600 s ahead of the database's: its schedules go off at the wrong time"),
            (-95.0, "the clock of other is 95 s behind the database's: its schedules go off at the wrong time"),
            (-9.0, None),
        ],
    )
    def test_a_machine_s_clock(self, healthy, skew, said):
        Cluster.objects.update(skew=skew)
        assert [line.partition(";")[0] for line in problems()] == ([] if said is None else [said])

    def test_no_cluster(self):
        assert problems() == ["no cluster works; start one with: manage.py qcluster"]

    @pytest.mark.parametrize("stopping", [pytest.param(True, id="stopping"), pytest.param(False, id="unseen")])
    def test_one_that_takes_no_messages_is_none(self, healthy, stopping):
        Cluster.objects.update(stopping=stopping, seen_at=ago(1 if stopping else 61))
        assert "no cluster works; start one with: manage.py qcluster" in problems()

    def test_a_cluster_that_was_killed_on_this_machine_is_known_at_once(self, healthy):
        here = this_process()
        make_cluster(machine=here.hostname, boot_id=here.boot, process_started=1)
        Cluster.objects.filter(hostname=here.hostname).update(pid=here.pid)
        assert [line for line in problems() if "ended without saying so" in line]

    def test_one_that_vanished_long_ago_is_shown_and_no_problem(self, healthy):
        make_cluster(machine="gone", seen=3600)
        status = cluster_status()
        assert [cluster.state for cluster in status.clusters] == ["lost", "working"]
        assert status.problems == []

    def test_a_message_that_waits_while_nobody_fetches(self, healthy):
        make_message(150)
        (line,) = problems()
        assert line.startswith("a message has waited for 150 s, although nobody fetches: a worker that was killed")

    def test_messages_that_were_taken_long_ago_while_others_wait(self, healthy):
        make_message(40)
        assert problems() == []
        async_task("jobs.tasks.work", 1)
        newest = OrmQ.objects.latest("id")
        newest.lock = ago(150) + timedelta(seconds=Conf.RETRY)
        newest.save()
        (line,) = problems()
        assert line.startswith("a message has waited for 40 s, although nobody fetches")
        OrmQ.objects.filter(lock__lt=timezone.now()).delete()
        assert problems() == []

    @pytest.mark.parametrize("busy", [pytest.param(True, id="busy"), pytest.param(False, id="between-slices")])
    def test_a_message_that_waits_for_its_turn_is_none(self, healthy, busy):
        make_message(150)
        run = plan("http://a/1")
        cluster.hand_over(run)
        if busy:
            leases.register_worker(run)
            Run.objects.update(woken_at=ago(130))
        assert problems() == []

    def test_a_message_may_wait_for_as_long_as_is_said(self, healthy):
        make_message(150)
        assert problems(late=200) == []

    @pytest.mark.parametrize("ended", [pytest.param(True, id="ended"), pytest.param(False, id="not-renewed")])
    def test_a_lease_that_is_over(self, healthy, ended):
        run = plan("http://a/1")
        cluster.hand_over(run)
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        if ended:
            Worker.objects.update(process_started=1)
        else:
            Worker.objects.update(expires_at=ago(75))
        (line,) = problems()
        assert ("has ended" if ended else "was over 75 s ago") in line
        assert f"holds lanes of run {run} (1)" in line

    @pytest.mark.parametrize("over", [RunState.COMPLETED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.RUNNING])
    def test_a_lease_of_a_run_that_does_not_go_on_is_none(self, healthy, over):
        run = plan("http://a/1")  # a command's, and left where it is still said to be running
        leases.lease_lanes(run, leases.register_worker(run))
        Worker.objects.update(process_started=1)
        Run.objects.update(state=over)

        status = cluster_status()
        assert (status.problems, list(status.workers)) == ([], [])

    def test_a_run_that_nobody_works_on(self, healthy):
        run = plan("http://a/1")
        cluster.hand_over(run)
        Run.objects.update(woken_at=ago(200))
        assert problems() == [f"run {run} has 1 pending: for 200 s nobody has worked on it"]
        Lane.objects.update(succeeded=1)
        assert problems() == []

    def test_a_job_that_did_not_fire(self, healthy):
        timers.set_alarm(make_job(schedule=HOURLY))
        Alarm.objects.filter(func=timers.FIRE).update(next_run=ago(300))
        (line,) = problems()
        assert line.startswith("job news was due at ")
        assert line.endswith("has not fired for 300 s")

    def test_schedules_that_are_late_are_none_while_a_cluster_has_just_begun(self, healthy):
        timers.set_alarm(make_job(schedule=HOURLY))
        Alarm.objects.update(next_run=ago(600))
        assert len(problems()) == 2
        Cluster.objects.update(started_at=ago(20))
        assert problems() == []

    def test_a_sweep_that_is_missing_or_late(self, healthy):
        Alarm.objects.filter(func=timers.SWEEP).update(next_run=ago(600))
        assert problems() == ["the sweep was due 600 s ago: no cluster looks at the schedules"]
        Alarm.objects.filter(func=timers.SWEEP).delete()
        assert problems() == [
            "the sweep, which finds what was lost, is not scheduled; set it up with: manage.py migrate"
        ]

    def test_a_queue_that_is_away(self, healthy, monkeypatch):
        use_redis(monkeypatch, f"redis://127.0.0.1:{free_port()}/0")
        (line,) = problems()
        assert line.startswith("the queue cannot be reached: Redis at 127.0.0.1:")
