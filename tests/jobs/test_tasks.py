"""What django-q2 calls: synchronous, with ids, and with answers that it can save."""

from __future__ import annotations

import inspect
import pickle
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import Schedule as Alarm

from fetcher.engine.config import FetchConfig
from fetcher.models import Result, Run, RunState
from fetcher.store import cluster
from jobs import firing, store, sweeping, tasks, timers
from jobs.models import Firing, Job
from jobs.schedules import Kind, Schedule, next_times
from tests.rows import make_run
from tests.support.jobs import make_job
from tests.support.queue import due_now, fire_due, hear, messages
from tests.support.stored import plan

MINUTELY = Schedule(kind=Kind.EVERY, every=1)
HERE = FetchConfig(allowed_networks=("127.0.0.0/8",), max_attempts=1)

pytestmark = pytest.mark.django_db(transaction=True)


def due(minutes_ago: int = 0) -> str:
    return next_times(MINUTELY, timezone.now() - timedelta(minutes=minutes_ago + 1), 1)[0].isoformat()


@pytest.mark.parametrize("name", ["work", "fire", "sweep"])
def test_they_are_plain_functions_that_the_queue_finds_by_name(name):
    found = getattr(tasks, name)
    assert not inspect.iscoroutinefunction(found)
    assert f"jobs.tasks.{name}" in ("jobs.tasks.work", timers.FIRE, timers.SWEEP)


def test_a_due_job_is_fetched_from_its_alarm_to_the_last_result(threaded_origin):
    urls = [threaded_origin.url(f"/ok/{number}") for number in range(3)]
    job = make_job("news", *urls, config=HERE, schedule=MINUTELY)
    due_now()
    assert fire_due() == [f"run {Run.objects.get().pk}"]
    run = Run.objects.get()
    assert hear("jobs.tasks.work") == [run.pk]
    run.refresh_from_db()
    assert (run.state, run.job_id, Result.objects.filter(run=run, status="succeeded").count()) == (
        RunState.COMPLETED, job.pk, 3,
    )  # fmt: skip
    assert Firing.objects.get().run == run.pk


def test_the_end_of_a_run_begins_what_waits_and_removes_old_runs(threaded_origin):
    job = make_job("news", threaded_origin.url("/ok/1"), config=HERE, schedule=MINUTELY, overlap="queue", keep_runs=1)
    old = [make_run(job_id=job.pk, job_name="news", finished_at=timezone.now()).pk for _ in range(2)]
    for minutes in (2, 1, 0):
        tasks.fire(job.pk, due(minutes))
    first = Run.objects.latest("id").pk
    assert hear("jobs.tasks.work") == [first]
    assert [row.state for row in Firing.objects.order_by("intended_at")] == ["ran", "skipped", "ran"]
    second = Run.objects.latest("id").pk
    assert second != first
    assert not Run.objects.filter(pk__in=old).exists()
    assert [message["args"] for message in messages("jobs.tasks.work")] == [(second,)]


def test_a_message_without_work_does_nothing():
    assert tasks.work(999) is None


def test_a_run_of_no_job_ends_like_any_other():
    run = plan()
    cluster.hand_over(run)
    assert tasks.work(run) is None


def test_answers_can_be_saved():
    job = make_job(schedule=MINUTELY)
    for answer in (tasks.fire(job.pk, due()), tasks.sweep(), tasks.work(999)):
        assert pickle.loads(pickle.dumps(answer)) == answer


class TestADatabaseThatGoesAway:
    def test_while_a_job_fires_leaves_the_alarm_for_the_sweep(self, monkeypatch):
        job = make_job(schedule=MINUTELY)
        due_now()
        alarm = Alarm.objects.filter(name=timers.name_of(job.pk))
        meant = timers.intended_by(alarm.get(), job.pk)
        moment = meant - timedelta(minutes=5)
        alarm.update(args=str((job.pk, moment.isoformat())))

        def away(job: Job, moment: datetime) -> None:
            raise OperationalError("gone")

        monkeypatch.setattr(firing, "begin", away)
        monkeypatch.setattr(firing, "passes", lambda exc: True)
        with pytest.raises(OperationalError):
            fire_due()
        assert (alarm.get().repeats, Firing.objects.count()) == (0, 0)
        monkeypatch.undo()
        alarm.update(next_run=timezone.now() - timers.HEARD - timedelta(seconds=1))
        assert tasks.sweep() == 1
        assert fire_due() == [f"run {Run.objects.get().pk}"]
        assert Firing.objects.get().intended_at == moment

    def test_for_good_is_noted_once(self, monkeypatch):
        job = make_job(schedule=MINUTELY)

        def full(job: Job, moment: datetime) -> None:
            raise OperationalError("disk full")

        monkeypatch.setattr(firing, "begin", full)
        assert tasks.fire(job.pk, due()) == "failed"
        assert "disk full" in Firing.objects.get().reason


def test_what_is_pruned_after_a_run_does_not_hold_up_what_waits(monkeypatch):
    job = make_job(schedule=MINUTELY, overlap="queue")
    for minutes in (1, 0):
        tasks.fire(job.pk, due(minutes))
    run = Run.objects.get()
    Run.objects.update(state=RunState.COMPLETED)

    def fails(job: Job) -> None:
        raise OSError("no such folder")

    monkeypatch.setattr(sweeping, "prune_job", fails)
    sweeping.after_run(run.pk)
    assert Firing.objects.filter(state="ran").count() == 2
    assert store.busy_with(job) is not None
