"""What the cluster does every minute: nothing that was lost stays lost, nothing grows without end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import Schedule as Alarm
from django_q.models import Task
from pytest_django import Settings

from fetcher.dispatch import DispatchError
from fetcher.models import Run, RunState
from fetcher.store import cluster
from jobs import sweeping, timers
from jobs.cluster import QCluster
from jobs.models import Firing, Job
from jobs.schedules import Kind, Schedule, next_times
from jobs.sweeping import FIRINGS, after_run, sweep_all
from jobs.tasks import fire
from tests.rows import make_run
from tests.support.jobs import make_job
from tests.support.queue import end_runs, fire_due, messages
from tests.support.stored import plan

QUARTERS = Schedule(kind=Kind.EVERY, every=15)


def due(ago: timedelta = timedelta()) -> datetime:
    return next_times(QUARTERS, timezone.now() - ago - timedelta(minutes=15), 1)[0]


def lose(job: Job, ago: timedelta = timedelta(minutes=20)) -> datetime:
    """Have a job's alarm gone off some time ago, and its message lost."""
    moment = due(ago)
    values = {"args": str((job.pk, moment.isoformat())), "repeats": 0, "next_run": moment}
    Alarm.objects.filter(name=timers.name_of(job.pk)).update(**values)
    return moment


def make_task(func: str, age: timedelta, **values: object) -> Task:
    stopped = timezone.now() - age
    return Task.objects.create(
        id=f"{func}-{age.days}"[:32], name="x", func=func, started=stopped, stopped=stopped, **values
    )


@pytest.mark.django_db(transaction=True)
class TestWhatWasLost:
    def test_an_alarm_that_nobody_heard_goes_off_again_with_the_time_that_was_meant(self):
        job = make_job(schedule=QUARTERS)
        moment = lose(job)
        assert (sweep_all(), fire_due()) == (1, [f"run {Run.objects.get().pk}"])
        assert Firing.objects.get().intended_at == moment
        assert sweep_all() == 0

    def test_an_alarm_that_was_heard_but_not_set_anew_begins_no_second_run(self):
        job = make_job(schedule=QUARTERS)
        fire(job.pk, lose(job).isoformat())
        lose(job)
        assert (sweep_all(), fire_due()) == (1, ["fired before"])

    def test_a_missing_alarm_is_set(self):
        job = make_job(schedule=QUARTERS)
        timers.remove_alarm(job.pk)
        assert (sweep_all(), Alarm.objects.filter(name=timers.name_of(job.pk)).count()) == (1, 1)

    def test_a_run_whose_message_was_lost_is_told_of_again(self):
        run = plan("http://a/1")
        cluster.hand_over(run)
        Run.objects.filter(pk=run).update(woken_at=timezone.now() - timedelta(minutes=5))
        assert sweep_all() == 1
        assert [message["args"] for message in messages("jobs.tasks.work")] == [(run,)]
        assert sweep_all() == 0

    def test_what_waits_is_begun_when_the_run_before_is_over(self):
        job = make_job(schedule=QUARTERS, overlap="queue")
        for ago in (timedelta(minutes=15), timedelta()):
            fire(job.pk, due(ago).isoformat())
        assert sweep_all() == 0
        end_runs()
        assert (sweep_all(), Firing.objects.filter(state="ran").count()) == (1, 2)

    def test_a_queue_that_is_away_stops_nothing_else(self, settings: Settings, caplog):
        settings.FETCHER_DISPATCHER = f"{__name__}.Away"
        run = plan("http://a/1")
        cluster.hand_over(run)
        Run.objects.filter(pk=run).update(woken_at=timezone.now() - timedelta(minutes=5))
        job = make_job(schedule=QUARTERS)
        Firing.objects.create(job=job, intended_at=due(), state="waiting")
        timers.remove_alarm(job.pk)
        sweep_all()
        assert Alarm.objects.filter(name=timers.name_of(job.pk)).exists()
        assert caplog.text.count("no worker was woken: gone") == caplog.text.count("not begun: gone") == 1

    def test_of_a_thousand_jobs_in_order_few_queries_look_for_it(self):
        # Rows as the store would save them.
        first = make_job("job-0", schedule=QUARTERS)
        lists = type(first.list).objects.bulk_create([type(first.list)() for _ in range(999)])
        jobs = Job.objects.bulk_create(
            Job(name=f"job-{number}", list=found, schedule_kind="every", every_minutes=15)
            for number, found in enumerate(lists, 1)
        )
        moment = next_times(QUARTERS, timezone.now(), 1)[0]
        Alarm.objects.bulk_create(
            Alarm(
                name=timers.name_of(job.pk), func=timers.FIRE, args=str((job.pk, moment.isoformat())),
                schedule_type=Alarm.ONCE, repeats=1, next_run=moment,
            )
            for job in jobs
        )  # fmt: skip
        with CaptureQueriesContext(connection) as queries:
            assert sweep_all() == 0
        assert len(queries) <= 15


class Away(QCluster):
    """A queue that cannot be reached."""

    def check(self) -> None:
        raise DispatchError("gone")

    def wake(self, run: int, count: int = 1) -> None:
        raise DispatchError("gone")


@pytest.mark.django_db(transaction=True)
class TestAfterARun:
    def test_the_one_that_waits_is_begun_at_once(self):
        job = make_job(schedule=QUARTERS, overlap="queue")
        for ago in (timedelta(minutes=15), timedelta()):
            fire(job.pk, due(ago).isoformat())
        first = Run.objects.get()
        end_runs()
        after_run(first.pk)
        assert [row.state for row in Firing.objects.all()] == ["ran", "ran"]

    def test_the_jobs_old_runs_are_removed(self):
        job = make_job(keep_runs=2)
        ids = [make_run(job_id=job.pk, job_name="news", finished_at=timezone.now()).pk for _ in range(4)]
        after_run(ids[-1])
        assert list(Run.objects.order_by("id").values_list("id", flat=True)) == ids[2:]

    @pytest.mark.parametrize("values", [{}, {"job_id": 999, "job_name": "gone"}], ids=["of no job", "of one removed"])
    def test_of_none_that_is_kept_nothing_is_done(self, values):
        run = make_run(**values)
        after_run(run.pk)
        assert Run.objects.get() == run


@pytest.mark.django_db
class TestPruning:
    def test_has_the_turn_of_each_job_once_an_hour(self):
        jobs = [make_job(f"j{number}", keep_runs=1) for number in range(3)]
        for job in jobs:
            for _ in range(2):
                make_run(job_id=job.pk, job_name=job.name, finished_at=timezone.now())
        sweeping._prune(datetime(2026, 3, 1, 5, jobs[1].pk % 60, tzinfo=UTC))
        assert [Run.objects.filter(job_id=job.pk).count() for job in jobs] == [2, 1, 2]
        for minute in range(60):
            sweeping._prune(datetime(2026, 3, 1, 6, minute, tzinfo=UTC))
        assert Run.objects.count() == 3

    def test_stops_when_it_took_long(self):
        job = make_job(keep_runs=1)
        for _ in range(2):
            make_run(job_id=job.pk, job_name=job.name, finished_at=timezone.now())
        times = iter([0.0, sweeping.PRUNING])
        sweeping._prune(datetime(2026, 3, 1, 6, job.pk % 60, tzinfo=UTC), lambda: next(times))
        assert Run.objects.count() == 2

    def test_that_fails_for_one_job_goes_on_with_the_next(self, monkeypatch, caplog):
        asked = []

        def fails(job: Job) -> None:
            asked.append(job.name)
            raise DatabaseError("locked")

        monkeypatch.setattr(sweeping, "prune_job", fails)
        first = make_job("a")
        Job.objects.filter(pk=make_job("b").pk).update(id=first.pk + 60)
        for pk in (first.pk, first.pk + 60):
            make_run(job_id=pk, finished_at=datetime(2025, 1, 1, tzinfo=UTC))
        sweeping._prune(datetime(2026, 3, 1, 6, first.pk % 60, tzinfo=UTC))
        assert asked == ["a", "b"]
        assert "old runs of job a were not removed: locked" in caplog.text

    def test_keeps_the_newest_firings_of_a_month_and_what_waits(self):
        job, other = make_job("a"), make_job("b")
        now = timezone.now()
        for owner in (job, other):
            Firing.objects.bulk_create(
                Firing(job=owner, intended_at=now - timedelta(hours=hours), state="ran")
                for hours in range(FIRINGS + 20)
            )
        Firing.objects.create(job=job, intended_at=now - timedelta(days=40), state="waiting")
        Firing.objects.create(job=other, intended_at=now - timedelta(days=40), state="ran")
        assert sweeping.prune_firings(job, now) == 20
        assert [Firing.objects.filter(job=owner).count() for owner in (job, other)] == [FIRINGS + 1, FIRINGS + 21]
        rare = make_job("c")
        for days in (1, 20, 31, 400):
            Firing.objects.create(job=rare, intended_at=now - timedelta(days=days), state="ran")
        assert sweeping.prune_firings(rare, now) == 2

    def test_removes_old_tasks_of_ours_only(self, monkeypatch):
        monkeypatch.setattr(sweeping, "_BATCH", 2)
        month = timedelta(days=31)
        for number in range(5):
            make_task("jobs.tasks.work", month + timedelta(days=number), success=False)
        kept = [make_task("jobs.tasks.fire", timedelta(days=1), success=False), make_task("print", month)]
        assert sweeping.prune_tasks(timezone.now()) == 5
        assert set(Task.objects.all()) == set(kept)


@pytest.mark.django_db
def test_a_run_that_a_sweep_ends_is_over():
    run = plan()
    cluster.hand_over(run)
    Run.objects.filter(pk=run).update(woken_at=timezone.now() - timedelta(minutes=5))
    assert sweep_all() == 0
    assert Run.objects.get().state == RunState.COMPLETED
