"""The sweep comes by a schedule; somebody who goes by none keeps that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone
from django_q.models import Schedule as Alarm
from django_q.signals import post_spawn

from fetcher.models import Run
from jobs import timers, watching
from jobs.models import Job
from jobs.schedules import Kind, Schedule
from tests.support.commands import manage
from tests.support.jobs import make_job
from tests.support.queue import due_now, fire_due
from tests.support.stored import side_by_side

pytestmark = pytest.mark.django_db(transaction=True)


def looks(times: int, *, between: Callable[[], object] = lambda: None) -> None:
    """Let the watch look so many times, in a thread of its own."""
    left = iter(range(times - 1))

    def wait(seconds: float) -> bool:
        assert seconds == watching.EVERY
        between()
        return next(left, None) is None

    side_by_side(lambda: watching._look(wait))


def sweeps() -> int:
    soon = timezone.now() + timedelta(minutes=1)
    return Alarm.objects.filter(func=timers.SWEEP, next_run__lt=soon, repeats=-1).count()


def test_tables_that_were_migrated_before_get_a_sweep():
    Alarm.objects.all().delete()
    looks(1)
    assert sweeps() == 1


def test_a_sweep_that_is_deleted_comes_back():
    looks(2, between=Alarm.objects.all().delete)
    assert sweeps() == 0  # deleted after the last look
    looks(1)
    assert sweeps() == 1


def test_a_sweep_that_a_wrong_clock_put_off_comes_soon():
    timers.ensure_sweep()
    Alarm.objects.update(next_run=timezone.now() + timedelta(days=1))
    looks(1)
    assert sweeps() == 1


def test_an_alarm_that_was_broken_by_hand_stops_the_others_only_until_somebody_looks():
    for name in ("news", "broken"):
        make_job(name, schedule=Schedule(kind=Kind.EVERY, every=1))
    due_now()
    Alarm.objects.filter(name=timers.name_of(Job.objects.get(name="broken").pk)).update(args="(1")
    timers.ensure_sweep()
    Alarm.objects.filter(func=timers.SWEEP).update(next_run=timezone.now() - timedelta(minutes=3))
    assert fire_due() == []
    looks(1)
    assert fire_due() == [f"run {Run.objects.get().pk}"]


def test_a_schedule_of_somebody_else_that_stops_the_others_is_told_of(caplog):
    past = timezone.now() - timedelta(minutes=3)
    timers.ensure_sweep()
    Alarm.objects.filter(func=timers.SWEEP).update(next_run=past)
    Alarm.objects.create(name="reports", func="reports.send", args="(1", next_run=past)
    Alarm.objects.create(func="reports.tidy", schedule_type=Alarm.HOURLY, next_run=past)
    looks(1)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "(reports) cannot be read, and stops all others" in told


def test_an_outage_is_outlived(monkeypatch, caplog):
    def away() -> None:
        raise OperationalError("away")

    Alarm.objects.all().delete()
    monkeypatch.setattr(watching, "ensure_sweep", away)
    looks(2, between=monkeypatch.undo)
    assert (caplog.text.count("could not be seen: away"), sweeps()) == (1, 1)


def test_each_worker_of_the_cluster_watches(monkeypatch):
    begun = []
    monkeypatch.setattr(watching, "watch", lambda **kwargs: begun.append(kwargs))
    post_spawn.send(sender="django_q", proc_name="worker")
    assert len(begun) == 1


def test_a_watch_ends_with_its_process():
    timers.ensure_sweep()
    thread = watching.watch(proc_name="worker")
    assert thread.daemon


@pytest.mark.parametrize("arguments", [(), ("jobs",), ("django_q",)], ids=["all", "ours", "the queue's"])
def test_migrating_sets_the_sweep_up(arguments):
    Alarm.objects.all().delete()
    call_command("migrate", *arguments, verbosity=0, interactive=False)
    assert sweeps() == 1


def test_migrating_before_the_queues_tables_are_there_is_fine(tmp_path):
    env = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "DJANGO_SETTINGS_MODULE": "settings.dev"}
    for arguments in (("jobs",), ()):
        done = manage("migrate", *arguments, env=env)
        assert (done.returncode, done.stderr) == (0, "")
