"""Each job keeps one alarm in step with itself, and nobody can make it two."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import Schedule as Alarm
from django_q.scheduler import scheduler

from jobs import store, timers
from jobs.models import Job
from jobs.schedules import Kind, Schedule, next_times
from jobs.timers import Alarmed
from tests.support.jobs import make_job
from tests.support.queue import due_now, messages
from tests.support.stored import side_by_side

QUARTERS = Schedule(kind=Kind.EVERY, every=15)
HOURLY = Schedule(kind=Kind.EVERY, every=60)
DAILY = Schedule(kind=Kind.DAILY, at="06:30", time_zone="Europe/Berlin")
CRON = Schedule(kind=Kind.CRON, cron="*/5 8-17 * * mon-fri", time_zone="Europe/Berlin")
NEVER = Schedule()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def alarms(job: Job) -> list[Alarm]:
    return list(Alarm.objects.filter(name=timers.name_of(job.pk)))


def intended(job: Job) -> datetime | None:
    (alarm,) = alarms(job)
    return timers.intended_by(alarm, job.pk)


@pytest.mark.django_db
class TestAJobKeepsOneAlarm:
    @pytest.mark.parametrize("schedule", [QUARTERS, DAILY, CRON], ids=str)
    def test_from_when_it_is_added(self, schedule):
        job = make_job(schedule=schedule)
        (alarm,) = alarms(job)
        assert intended(job) == next_times(schedule, timezone.now(), 1)[0] == alarm.next_run
        assert (alarm.func, alarm.schedule_type, alarm.repeats) == (timers.FIRE, Alarm.ONCE, 1)

    def test_none_without_a_schedule(self):
        assert alarms(make_job()) == []

    def test_through_changes_of_the_schedule(self):
        job = make_job(schedule=QUARTERS)
        for schedule in (DAILY, CRON, HOURLY):
            store.change_job("news", store.Wanted(schedule=schedule))
            assert intended(job) == next_times(schedule, timezone.now(), 1)[0]
        store.change_job("news", store.Wanted(schedule=NEVER))
        assert alarms(job) == []

    def test_through_pause_and_resume(self):
        job = make_job(schedule=DAILY)
        store.pause_or_resume("news", enabled=False)
        assert alarms(job) == []
        store.change_job("news", store.Wanted(schedule=QUARTERS))
        assert alarms(job) == []
        store.pause_or_resume("news", enabled=True)
        assert intended(job) == next_times(QUARTERS, timezone.now(), 1)[0]

    def test_until_it_is_removed(self):
        job = make_job(schedule=DAILY)
        other = make_job("other", schedule=DAILY)
        store.remove_job("news")
        assert (alarms(job), len(alarms(other))) == ([], 1)

    def test_that_is_overdue_through_changes_of_something_else(self):
        job = make_job(schedule=QUARTERS)
        missed = next_times(QUARTERS, timezone.now() - timedelta(days=1), 1)[0]
        Alarm.objects.update(args=str((job.pk, missed.isoformat())), next_run=missed)
        store.change_job("news", store.Wanted(policies={"overlap": "queue"}))
        assert intended(job) == missed
        store.change_job("news", store.Wanted(schedule=DAILY))
        assert intended(job) == next_times(DAILY, timezone.now(), 1)[0]

    def test_whose_start_is_spread_but_not_beyond_the_time_after_it(self):
        policies = {"start_jitter": 3600}
        hourly = [make_job(f"h{number}", schedule=HOURLY, **policies) for number in range(20)]
        minutely = [
            make_job(f"m{number}", schedule=Schedule(kind=Kind.EVERY, every=1), **policies) for number in range(5)
        ]
        waits = [alarms(job)[0].next_run - intended(job) for job in hourly]
        assert len(set(waits)) > 15
        assert all(timedelta() <= wait <= timedelta(hours=1) for wait in waits)
        assert all(alarms(job)[0].next_run - intended(job) <= timedelta(minutes=1) for job in minutely)

    @pytest.mark.django_db(transaction=True)  # the scheduler closes connections
    def test_which_the_queues_scheduler_can_read(self):
        for number, schedule in enumerate((QUARTERS, DAILY, CRON)):
            make_job(f"j{number}", schedule=schedule)
        due_now()
        expected = sorted(ast.literal_eval(alarm.args) for alarm in Alarm.objects.filter(func=timers.FIRE))
        scheduler()
        assert sorted(message["args"] for message in messages(timers.FIRE)) == expected
        assert set(Alarm.objects.filter(func=timers.FIRE).values_list("repeats", flat=True)) == {0}


@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    def test_make_one_alarm(self):
        job = make_job(schedule=DAILY)
        for _ in range(5):
            Alarm.objects.filter(func=timers.FIRE).delete()
            side_by_side(*[lambda: timers.set_alarm(job)] * 2, lambda: timers.mend_alarms(timezone.now()))
            assert len(alarms(job)) == 1

    def test_leave_the_alarm_of_the_schedule_that_was_saved_last(self):
        job = make_job(schedule=DAILY)
        for _ in range(5):
            side_by_side(
                *[
                    lambda wanted=wanted: store.change_job("news", store.Wanted(schedule=wanted))
                    for wanted in (QUARTERS, CRON)
                ],
                lambda: timers.heard(job, timezone.now(), timezone.now()),
            )
            assert intended(job) == next_times(Job.objects.get().schedule, timezone.now(), 1)[0]

    def test_leave_none_of_a_job_that_is_removed(self):
        for _ in range(5):
            job = make_job(schedule=DAILY)
            side_by_side(
                lambda: store.remove_job("news"), lambda job=job: timers.heard(job, timezone.now(), timezone.now())
            )
            assert alarms(job) == []

    def test_keep_one_sweep(self):
        for _ in range(5):
            Alarm.objects.filter(func=timers.SWEEP).delete()
            side_by_side(*[timers.ensure_sweep] * 4)
            timers.ensure_sweep()
            assert Alarm.objects.filter(func=timers.SWEEP).count() == 1


NOW = utc("2026-03-01T10:07:00")
# What the alarm of a job every 15 minutes is: the time it is for, when it goes off, repeats; and what that is at 10:07.
CASES = {
    "for the next time": ("10:15", "10:15", 1, Alarmed.RIGHT),
    "spread by the jitter": ("10:15", "10:15:50", 1, Alarmed.RIGHT),
    "later than the jitter": ("10:15", "10:17", 1, Alarmed.WRONG),
    "overdue: the scheduler will see it": ("10:00", "10:00", 1, Alarmed.RIGHT),
    "overdue, for a time that somebody chose": ("10:05", "10:05", 1, Alarmed.RIGHT),
    "for a time that somebody chose, but has not come": ("10:10", "10:10", 1, Alarmed.WRONG),
    "for a later time: the clock was put back": ("10:30", "10:30", 1, Alarmed.WRONG),
    "went off just now": ("10:00", "10:06", 0, Alarmed.RIGHT),
    "went off, and nobody heard": ("10:00", "10:00", 0, Alarmed.LOST),
    "goes off again": ("10:00", "10:07", 1, Alarmed.RIGHT),
    "went off ahead of the time: the clock was put back": ("10:15", "10:15", 0, Alarmed.LOST),
    "put off by hand": ("10:00", "23:00", 1, Alarmed.WRONG),
}


@pytest.mark.parametrize(("meant", "goes_off", "repeats", "expected"), CASES.values(), ids=CASES.keys())
def test_an_alarm_is(meant, goes_off, repeats, expected):
    job = Job(pk=7, start_jitter=60)
    job.schedule = QUARTERS
    meant, goes_off = utc(f"2026-03-01T{meant}"), utc(f"2026-03-01T{goes_off}")
    args = str((7, meant.isoformat()))
    alarm = Alarm(func=timers.FIRE, schedule_type=Alarm.ONCE, args=args, repeats=repeats, next_run=goes_off)
    assert timers.judge(job, alarm, NOW) is expected


@pytest.mark.parametrize(
    "values",
    [
        {"args": "(7,"}, {"args": None}, {"args": "(8, '2026-03-01T10:15:00+00:00')"}, {"args": "(7, 'soon')"},
        {"args": "(7, '2026-03-01T10:15:00')"}, {"args": "7"}, {"func": "print"}, {"schedule_type": Alarm.HOURLY},
        {"cluster": "other"}, {"repeats": -1}, {"kwargs": "{'a': 1}"}, {"hook": "print"},
        {"intended_date_kwarg": "now"},
    ],
    ids=str,
)  # fmt: skip
def test_an_alarm_that_was_changed_by_hand_is_wrong(values):
    job = Job(pk=7)
    job.schedule = QUARTERS
    right = {
        "func": timers.FIRE, "schedule_type": Alarm.ONCE, "args": "(7, '2026-03-01T10:15:00+00:00')", "repeats": 1,
        "next_run": utc("2026-03-01T10:15:00"),
    }  # fmt: skip
    assert timers.judge(job, Alarm(**right), NOW) is Alarmed.RIGHT
    assert timers.judge(job, Alarm(**{**right, **values}), NOW) is Alarmed.WRONG


@pytest.mark.parametrize(
    ("schedule", "enabled", "expected"),
    [(NEVER, True, Alarmed.RIGHT), (QUARTERS, False, Alarmed.RIGHT), (QUARTERS, True, Alarmed.WRONG)],
)
def test_no_alarm_is_right_for_a_job_that_is_not_due(schedule, enabled, expected):
    job = Job(pk=7, enabled=enabled)
    job.schedule = schedule
    assert timers.judge(job, None, NOW) is expected


@pytest.mark.django_db
class TestMending:
    def test_gives_each_job_the_alarm_it_lacks_and_removes_what_nobody_has(self):
        jobs = [make_job(f"j{number}", schedule=QUARTERS) for number in range(6)]
        now = timezone.now()
        gone, doubled, changed, lost, late, _ = (alarms(job)[0] for job in jobs)
        gone.delete()
        Alarm.objects.create(name=doubled.name, func=timers.FIRE, args=doubled.args)
        Alarm.objects.filter(pk=changed.pk).update(args="(1")
        went_off = next_times(QUARTERS, now - timedelta(minutes=40), 1)[0]
        args = str((jobs[3].pk, went_off.isoformat()))
        Alarm.objects.filter(pk=lost.pk).update(args=args, repeats=0, next_run=went_off)
        Alarm.objects.filter(pk=late.pk).update(next_run=now + timedelta(days=1))
        Alarm.objects.create(name=timers.name_of(999), func=timers.FIRE, args="(999, '')")
        Alarm.objects.create(name="mine", func=timers.FIRE)
        others = Alarm.objects.create(name="another's", func="print")
        assert timers.mend_alarms(now) == 7
        expected = next_times(QUARTERS, now, 1)[0]
        assert [intended(job) for job in jobs] == [*[expected] * 3, went_off, *[expected] * 2]
        assert (alarms(jobs[3])[0].repeats, alarms(jobs[3])[0].next_run) == (1, now)
        assert Alarm.objects.exclude(func=timers.SWEEP).count() == len(jobs) + 1
        assert Alarm.objects.filter(pk=others.pk).exists()
        assert timers.mend_alarms(now) == 0

    def test_of_many_jobs_that_are_right_takes_three_queries(self):
        for number in range(30):
            make_job(f"j{number}", schedule=CRON)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert timers.mend_alarms(timezone.now()) == 0
        assert len(queries) <= 3

    def test_of_many_that_were_lost_takes_no_more(self):
        jobs = [make_job(f"j{number}", schedule=QUARTERS) for number in range(30)]
        past = next_times(QUARTERS, timezone.now() - timedelta(hours=1), 1)[0]
        for job in jobs:
            Alarm.objects.filter(name=timers.name_of(job.pk)).update(args=str((job.pk, past.isoformat())))
        Alarm.objects.filter(func=timers.FIRE).update(repeats=0, next_run=past)
        with CaptureQueriesContext(connection) as queries:
            assert timers.mend_alarms(timezone.now()) == 30
        assert len(queries) <= 3


@pytest.mark.django_db
class TestHearing:
    def test_sets_the_next_alarm(self):
        job = make_job(schedule=QUARTERS)
        due = intended(job)
        timers.heard(job, due, due + timedelta(seconds=20))
        assert intended(job) == due + timedelta(minutes=15)

    def test_late_passes_over_what_was_missed(self):
        job = make_job(schedule=QUARTERS)
        due = intended(job)
        timers.heard(job, due, due + timedelta(hours=3, minutes=5))
        assert intended(job) == due + timedelta(hours=3, minutes=15)

    def test_by_a_scheduler_that_looks_every_half_minute_passes_over_no_minute(self):
        job = make_job(schedule=Schedule(kind=Kind.EVERY, every=1))
        due = intended(job)
        for minute in range(5):
            timers.heard(job, due + timedelta(minutes=minute), due + timedelta(minutes=minute, seconds=61))
            assert intended(job) == due + timedelta(minutes=minute + 1)

    def test_twice_takes_no_other_alarms_place(self):
        job = make_job(schedule=QUARTERS)
        due = intended(job)
        timers.heard(job, due, due)
        following = due + timedelta(minutes=15)
        timers.heard(job, due, following + timedelta(seconds=5))
        assert intended(job) == following


@pytest.mark.django_db
class TestTheSweep:
    @pytest.mark.parametrize(
        "values",
        [{"repeats": 0}, {"minutes": 600}, {"args": "(1"}, {"hook": "print"},
         {"schedule_type": Alarm.ONCE}, {"cluster": "other"},
         {"next_run": NOW + timedelta(days=9999)}, {"next_run": NOW - timedelta(days=9999)}],
        ids=str,
    )  # fmt: skip
    def test_is_set_right(self, values):
        timers.ensure_sweep()
        Alarm.objects.filter(func=timers.SWEEP).update(**values)
        assert timers.ensure_sweep()
        sweep = Alarm.objects.get(func=timers.SWEEP)
        assert (sweep.repeats, sweep.minutes, sweep.schedule_type, sweep.cluster) == (-1, 1, Alarm.MINUTES, None)
        assert abs(sweep.next_run - timezone.now()) < timedelta(minutes=1)

    def test_is_there_from_the_migration_and_left_as_it_is_while_it_is_right(self):
        (before,) = Alarm.objects.filter(func=timers.SWEEP) or [None]
        timers.ensure_sweep()
        before = before or Alarm.objects.get(func=timers.SWEEP)
        with CaptureQueriesContext(connection) as queries:
            assert not timers.ensure_sweep()
        assert Alarm.objects.get(func=timers.SWEEP).pk == before.pk
        assert len(queries) == 2
