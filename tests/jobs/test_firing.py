"""What becomes of a job that is due: by its policies, by the clock, and once however often it is said."""

from __future__ import annotations

import ast
import multiprocessing
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.utils import timezone
from django_q.models import Schedule as Alarm
from pytest_django import Settings

from fetcher.dispatch import DispatchError
from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.models import Run
from jobs import firing, store, timers
from jobs.cluster import QCluster
from jobs.models import Firing, Job
from jobs.schedules import Kind, Schedule, is_due, next_times
from jobs.tasks import fire
from tests.support.jobs import make_job
from tests.support.queue import due_now, end_runs, fire_due, hear, messages, take
from tests.support.stored import side_by_side

QUARTERS = Schedule(kind=Kind.EVERY, every=15)
HOURLY = Schedule(kind=Kind.EVERY, every=60)
NIGHTLY = Schedule(kind=Kind.DAILY, at="02:30", time_zone="Europe/Berlin")
NIGHT_HOURS = Schedule(kind=Kind.CRON, cron="0 * * * *", time_zone="Europe/Berlin")
DAILY = Schedule(kind=Kind.DAILY, at="06:30")

pytestmark = pytest.mark.django_db(transaction=True)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(job: Job | None = None) -> list[tuple[str, str]]:
    """Return the firings in the order of the times that were meant, with what became of them."""
    firings = Firing.objects.filter(job=job) if job else Firing.objects.all()
    return [(f"{row.intended_at:%m-%d %H:%M}", row.state) for row in firings.order_by("intended_at")]


def due(job: Job, schedule: Schedule = QUARTERS, *, ago: timedelta = timedelta()) -> str:
    """Return the newest time at which a job was due, as its alarm would say it."""
    now = timezone.now() - ago
    day = next_times(schedule, now - timedelta(days=1), 200)
    return max(time for time in day if time <= now).isoformat()


class Days:
    """A cluster whose clock the test turns: its scheduler and its sweep look every ``step`` of it, runs end at once."""

    def __init__(self, start: str, step: timedelta = timedelta(minutes=5)) -> None:
        self.now, self.step = utc(start), step
        for job in Job.objects.all():
            Alarm.objects.filter(name=timers.name_of(job.pk)).delete()
            timers.set_alarm(job, self.now)

    def until(self, end: str) -> None:
        while self.now < utc(end):
            self.now += self.step
            self.look()

    def look(self) -> None:
        for alarm in Alarm.objects.filter(func=timers.FIRE, next_run__lt=self.now, repeats=1):
            Alarm.objects.filter(pk=alarm.pk).update(repeats=0)
            firing.fire_job(*ast.literal_eval(alarm.args), now=self.now)
            end_runs()
        timers.mend_alarms(self.now)

    def set_clock(self, to: str) -> None:
        self.now = utc(to)
        self.look()


def plain(days: Days) -> None:
    days.until("2026-03-10T12:40")


def down_for_a_day(days: Days) -> None:
    days.until("2026-03-10T12:20")
    days.set_clock("2026-03-11T12:07")
    days.until("2026-03-11T12:20")


def down_until_a_time_is_just_due(days: Days) -> None:
    days.until("2026-03-10T12:20")
    days.set_clock("2026-03-11T12:16")
    days.until("2026-03-11T12:40")


def clock_forward_and_back(days: Days) -> None:
    days.until("2026-03-10T12:20")
    days.set_clock("2026-03-11T12:20")
    days.until("2026-03-11T12:32")
    days.set_clock("2026-03-10T12:32")
    days.until("2026-03-10T13:02")


def clock_back_by_an_hour(days: Days) -> None:
    days.until("2026-03-10T12:20")
    days.set_clock("2026-03-10T11:20")
    days.until("2026-03-10T12:40")


def through_a_night_into_summer(days: Days) -> None:
    days.until("2026-03-30T02:00")


def through_a_night_into_winter(days: Days) -> None:
    days.until("2026-10-26T03:00")


NOON, SPRING, AUTUMN = "2026-03-10T12:00", "2026-03-28T20:00", "2026-10-24T20:00"
CLOCKS = {
    "a clock that goes": (
        QUARTERS, "one", NOON, plain, ["03-10 12:15 ran", "03-10 12:30 ran"],
    ),
    "down for a day: one run for all that was missed": (
        QUARTERS, "one", NOON, down_for_a_day, ["03-10 12:15 ran", "03-10 12:30 ran", "03-11 12:15 ran"],
    ),
    "down for a day: none of what was missed": (
        QUARTERS, "none", NOON, down_for_a_day, ["03-10 12:15 ran", "03-10 12:30 missed", "03-11 12:15 ran"],
    ),
    "down, and back when a time has just come: it is not missed": (
        QUARTERS, "none", NOON, down_until_a_time_is_just_due,
        ["03-10 12:15 ran", "03-10 12:30 ran", "03-11 12:30 ran"],
    ),
    "down for a day, a daily job": (
        DAILY, "one", "2026-03-10T06:00", down_for_a_day, ["03-10 06:30 ran", "03-11 06:30 ran"],
    ),
    "down for a day, a daily job, nothing of what was missed": (
        DAILY, "none", "2026-03-10T06:00", down_for_a_day, ["03-10 06:30 ran", "03-11 06:30 missed"],
    ),
    # What the wrong day had is a missed time and its own 12:30; afterwards each quarter again, no day without any.
    "a clock that steps forward by a day and back": (
        QUARTERS, "one", NOON, clock_forward_and_back,
        ["03-10 12:15 ran", "03-10 12:30 ran", "03-10 12:45 ran", "03-10 13:00 ran", "03-11 12:30 ran"],
    ),
    "a clock that steps forward by a day and back, a daily job is due once more on the day": (
        DAILY, "one", NOON, clock_forward_and_back, ["03-11 06:30 ran"],
    ),
    "a clock that steps back by an hour: no time has two runs": (
        QUARTERS, "one", "2026-03-10T11:50", clock_back_by_an_hour,
        ["03-10 11:30 ran", "03-10 11:45 ran", "03-10 12:00 ran", "03-10 12:15 ran", "03-10 12:30 ran"],
    ),
    # At 01:00 UTC of 29 March the clocks of Berlin go from 02:00 to 03:00.
    "into summer: a time that is passed over is an hour later": (
        NIGHTLY, "one", SPRING, through_a_night_into_summer, ["03-29 01:30 ran", "03-30 00:30 ran"],
    ),
    "into summer: each hour has its run": (
        NIGHT_HOURS, "one", "2026-03-28T23:30",
        lambda days: days.until("2026-03-29T02:30"),
        ["03-29 00:00 ran", "03-29 01:00 ran", "03-29 02:00 ran"],
    ),
    # At 01:00 UTC of 25 October they go from 03:00 back to 02:00.
    "into winter: a time that comes twice has one run": (
        NIGHTLY, "one", AUTUMN, through_a_night_into_winter, ["10-25 00:30 ran", "10-26 01:30 ran"],
    ),
    "into winter: each hour has its run": (
        NIGHT_HOURS, "one", "2026-10-24T23:30",
        lambda days: days.until("2026-10-25T02:30"),
        ["10-25 00:00 ran", "10-25 01:00 ran", "10-25 02:00 ran"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schedule", "missed", "start", "turn", "expected"), CLOCKS.values(), ids=CLOCKS.keys())
def test_by_the_clock(
    schedule: Schedule, missed: str, start: str, turn: Callable[[Days], None], expected: list[str]
) -> None:
    make_job(schedule=schedule, missed=missed)
    turn(Days(start))
    assert [f"{time} {state}" for time, state in told()] == expected
    assert Run.objects.count() == sum(line.endswith("ran") for line in expected)


LATE = {
    "on time": (QUARTERS, 0, 0, False),
    "within five minutes": (QUARTERS, 5 * 60, 0, False),
    "later": (DAILY, 5 * 60 + 1, 0, True),
    "later, but the start is spread": (DAILY, 30 * 60, 1800, False),
    "later than the start is spread": (DAILY, 36 * 60, 1800, True),
    "later, but a time has just come": (QUARTERS, 17 * 60, 0, False),
    "later, between two times": (QUARTERS, 25 * 60, 0, True),
    "a day": (DAILY, 24 * 3600 + 60, 0, False),
}


@pytest.mark.parametrize(("schedule", "seconds", "jitter", "expected"), LATE.values(), ids=LATE.keys())
def test_is_missed(schedule, seconds, jitter, expected):
    meant = utc("2026-03-10T06:30")
    now = meant + timedelta(seconds=seconds)
    assert firing.is_missed(schedule, meant, now, timedelta(seconds=jitter)) is expected


class TestOnce:
    def test_however_often_it_is_said(self):
        job = make_job(schedule=QUARTERS)
        moment = due(job)
        (first, *others) = [fire(job.pk, moment) for _ in range(3)]
        assert (first, others) == (f"run {Run.objects.get().pk}", ["fired before"] * 2)

    def test_also_where_the_run_is_over_by_then(self):
        job = make_job(schedule=QUARTERS)
        moment = due(job)
        fire(job.pk, moment)
        end_runs()
        assert fire(job.pk, moment) == "fired before"

    def test_by_two_at_once(self):
        job = make_job(schedule=QUARTERS)
        for ago in range(4):
            moment = due(job, ago=timedelta(minutes=15 * ago))
            told = side_by_side(*[lambda moment=moment: fire(job.pk, moment)] * 3)
            assert sorted(told)[:2] == ["fired before"] * 2
            end_runs()
        assert Run.objects.count() == Firing.objects.filter(state="ran").count() == 4

    def test_by_two_schedulers_and_with_a_message_that_comes_again(self):
        job = make_job(schedule=QUARTERS)
        moment = due(job)
        Alarm.objects.filter(name=timers.name_of(job.pk)).update(args=str((job.pk, moment)))
        due_now()
        first = fire_due()
        # As after a restart between the firing and the next alarm.
        Alarm.objects.filter(name=timers.name_of(job.pk)).update(args=str((job.pk, moment)))
        due_now()
        assert (first, fire_due()) == ([f"run {Run.objects.get().pk}"], ["fired before"])
        assert Alarm.objects.get(name=timers.name_of(job.pk)).next_run > datetime.fromisoformat(moment)

    def test_wakes_the_cluster_for_its_run(self):
        job = make_job(schedule=QUARTERS)
        fire(job.pk, due(job))
        run = Run.objects.get()
        assert (run.job_id, run.job_name, run.state, run.woken_at is not None) == (job.pk, "news", "pending", True)
        assert [message["args"] for message in messages("jobs.tasks.work")] == [(run.pk,)]


class TestPolicies:
    def test_skip_passes_over_what_comes_while_a_run_is_in_progress(self):
        job = make_job(schedule=QUARTERS)
        fire(job.pk, due(job, ago=timedelta(minutes=15)))
        assert fire(job.pk, due(job)) == "skipped"
        end_runs()
        assert (firing.begin_waiting(), fire(job.pk, due(job))) == (0, "fired before")
        assert Firing.objects.get(state="skipped").reason == f"run {Run.objects.get().pk} of job news is in progress"

    def test_queue_begins_the_newest_when_the_run_is_over(self):
        job = make_job(schedule=QUARTERS, overlap="queue")
        moments = [due(job, ago=timedelta(minutes=15 * ago)) for ago in (3, 2, 1, 0)]
        said = [fire(job.pk, moment) for moment in moments]
        assert said[1:] == ["waiting"] * 3
        assert [state for _, state in told()] == ["ran", "skipped", "skipped", "waiting"]
        assert firing.begin_waiting(job.pk) == 0
        end_runs()
        assert firing.begin_waiting(job.pk) == 1
        assert [state for _, state in told()] == ["ran", "skipped", "skipped", "ran"]
        assert Firing.objects.filter(reason="a later one waits").count() == 2
        assert (firing.begin_waiting(), Run.objects.count()) == (0, 2)

    def test_queue_forgets_one_that_waits_when_a_later_one_was_begun(self):
        job = make_job(schedule=QUARTERS, overlap="queue")
        for ago in (2, 1):
            fire(job.pk, due(job, ago=timedelta(minutes=15 * ago)))
        end_runs()
        fire(job.pk, due(job))
        end_runs()
        assert firing.begin_waiting() == 0
        assert [state for _, state in told()] == ["ran", "skipped", "ran"]
        assert Firing.objects.get(state="skipped").reason == "a later one was begun"

    def test_two_who_begin_what_waits_begin_one_run(self):
        job = make_job(schedule=QUARTERS, overlap="queue")
        for ago in (1, 0):
            fire(job.pk, due(job, ago=timedelta(minutes=15 * ago)))
        end_runs()
        assert sum(side_by_side(firing.begin_waiting, lambda: firing.begin_waiting(job.pk), firing.begin_waiting)) == 1
        assert Run.objects.count() == 2

    def test_what_waits_for_a_job_that_is_paused_then_is_skipped(self):
        job = make_job(schedule=QUARTERS, overlap="queue")
        for ago in (1, 0):
            fire(job.pk, due(job, ago=timedelta(minutes=15 * ago)))
        store.pause_or_resume("news", enabled=False)
        end_runs()
        assert firing.begin_waiting() == 0
        assert "paused" in Firing.objects.get(state="skipped").reason

    def test_what_waits_for_one_job_is_not_held_up_by_another(self):
        jobs = [make_job(name, schedule=QUARTERS, overlap="queue") for name in ("a", "b")]
        for job in jobs:
            for ago in (1, 0):
                fire(job.pk, due(job, ago=timedelta(minutes=15 * ago)))
        Run.objects.filter(job_id=jobs[1].pk).update(state="completed")
        assert firing.begin_waiting() == 1
        assert [state for _, state in told(jobs[1])] == ["ran", "ran"]


class TestBetweenTheAlarmAndItsMessage:
    def test_a_paused_job_does_not_fire(self):
        job = make_job(schedule=QUARTERS)
        store.pause_or_resume("news", enabled=False)
        assert (fire(job.pk, due(job)), told()) == ("paused", [])

    def test_another_schedule_is_the_one_that_counts(self):
        job = make_job(schedule=QUARTERS)
        moment = due(job)
        other = Schedule(kind=Kind.CRON, cron="7 * * * *")
        store.change_job("news", store.Wanted(schedule=other))
        assert (fire(job.pk, moment), told()) == ("not due any more", [])
        alarm = Alarm.objects.get(name=timers.name_of(job.pk))
        assert is_due(other, timers.intended_by(alarm, job.pk))

    def test_somebody_may_have_an_alarm_go_off_at_a_time_of_their_own(self):
        job = make_job(schedule=DAILY)
        moment = timezone.now() - timedelta(seconds=10)
        alarm = Alarm.objects.filter(name=timers.name_of(job.pk))
        alarm.update(args=str((job.pk, moment.isoformat())), next_run=moment)
        assert fire_due() == [f"run {Run.objects.get().pk}"]
        assert timers.intended_by(alarm.get(), job.pk) == next_times(DAILY, timezone.now(), 1)[0]

    def test_a_job_that_is_removed_is_forgotten(self):
        job = make_job(schedule=QUARTERS)
        due_now()
        moment = due(job)
        pk = job.pk
        store.remove_job("news")
        Alarm.objects.create(name=timers.name_of(pk), func=timers.FIRE, args=str((pk, moment)))
        assert fire(pk, moment) == "no such job"
        assert not Alarm.objects.filter(func=timers.FIRE).exists()

    def test_a_job_of_the_same_name_is_another(self):
        job = make_job(schedule=QUARTERS)
        pk, moment = job.pk, due(job)
        store.remove_job("news")
        make_job(schedule=QUARTERS)
        assert (fire(pk, moment), Run.objects.count()) == ("no such job", 0)

    def test_a_clock_that_was_put_back_leaves_the_time_to_come(self):
        job = make_job(schedule=QUARTERS)
        ahead = next_times(QUARTERS, timezone.now() + timedelta(hours=3), 1)[0]
        args = str((job.pk, ahead.isoformat()))
        Alarm.objects.filter(name=timers.name_of(job.pk)).update(args=args, repeats=0, next_run=ahead)
        assert (fire(job.pk, ahead.isoformat()), told()) == ("not due yet", [])
        alarm = Alarm.objects.get(name=timers.name_of(job.pk))
        assert timers.intended_by(alarm, job.pk) == next_times(QUARTERS, timezone.now(), 1)[0]


class Away(QCluster):
    """A queue that cannot be reached."""

    def check(self) -> None:
        raise DispatchError("the queue cannot be reached: Redis at nowhere")


class Broken(QCluster):
    """A mistake of ours."""

    def check(self) -> None:
        raise RuntimeError("broken\nin two lines")


class TestWhatCannotBegin:
    def test_for_want_of_a_variable_is_failed_and_says_which(self, monkeypatch):
        monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
        config = FetchConfig(headers=(("Authorization", EnvReference("NO_SUCH_TOKEN")),))
        job = make_job(schedule=QUARTERS, config=config)
        assert fire(job.pk, due(job)) == "failed"
        assert "NO_SUCH_TOKEN" in Firing.objects.get().reason
        assert (Run.objects.count(), messages("jobs.tasks.work")) == (0, [])

    def test_for_secrets_of_another_key_is_failed_and_says_so(self, settings: Settings):
        job = make_job(schedule=QUARTERS, config=FetchConfig(headers=(("Authorization", "Bearer x"),)))
        settings.SECRET_KEY = "another"
        assert fire(job.pk, due(job)) == "failed"
        assert "SECRET_KEY" in Firing.objects.get().reason

    def test_for_a_deadline_that_the_queue_would_cut_is_failed(self):
        job = make_job(schedule=QUARTERS, config=FetchConfig(deadline=3000, total_deadline=9000))
        assert fire(job.pk, due(job)) == "failed"
        assert "deadline" in Firing.objects.get().reason

    def test_for_a_mistake_of_ours_is_failed_and_does_not_come_again(self, settings: Settings):
        settings.FETCHER_DISPATCHER = f"{__name__}.Broken"
        job = make_job(schedule=QUARTERS)
        moment = due(job)
        assert [fire(job.pk, moment), fire(job.pk, moment)] == ["failed", "fired before"]
        assert Firing.objects.get().reason == "RuntimeError: broken"

    def test_for_want_of_the_queue_waits_for_it(self, settings: Settings):
        job = make_job(schedule=QUARTERS)
        settings.FETCHER_DISPATCHER = f"{__name__}.Away"
        assert fire(job.pk, due(job)) == "waiting"
        assert firing.begin_waiting() == 0
        del settings.FETCHER_DISPATCHER
        settings.FETCHER_DISPATCHER = "jobs.cluster.QCluster"
        assert firing.begin_waiting() == 1
        assert [state for _, state in told()] == ["ran"]

    def test_fires_again_at_the_next_time(self, monkeypatch):
        config = FetchConfig(headers=(("Authorization", EnvReference("LATE_TOKEN")),))
        job = make_job(schedule=QUARTERS, config=config)
        fire(job.pk, due(job, ago=timedelta(minutes=15)))
        monkeypatch.setenv("LATE_TOKEN", "x")
        assert fire(job.pk, due(job)).startswith("run ")
        assert [state for _, state in told()] == ["failed", "ran"]


def test_a_person_begins_a_run_beside_the_schedule():
    job = make_job(schedule=QUARTERS)
    run = firing.run_now(job)
    assert (Run.objects.get().pk, told()) == (run, [])
    with pytest.raises(store.JobBusy):
        firing.run_now(job)


ROUNDS, JOBS = 5, 20


def _cluster(barrier: object, database: dict[str, object], rounds: int) -> None:
    """What two machines do in each round: look what is due, at once, and hear of it; each message twice."""
    connections.close_all()
    connections["default"].settings_dict.update(database)
    for _ in range(rounds):
        barrier.wait()  # type: ignore[attr-defined]
        from django_q.scheduler import scheduler

        scheduler()
        barrier.wait()  # type: ignore[attr-defined]
        for message in take(timers.FIRE):
            fire(*message["args"])
            fire(*message["args"])
        barrier.wait()  # type: ignore[attr-defined]
    connections.close_all()


def test_two_schedulers_fire_twenty_due_jobs_once_each_in_every_round():
    jobs = [make_job(f"job-{number}", schedule=QUARTERS) for number in range(JOBS)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3, timeout=60)
    database = {"NAME": connections["default"].settings_dict["NAME"]}
    connections.close_all()
    processes = [context.Process(target=_cluster, args=(barrier, database, ROUNDS)) for _ in range(2)]
    for process in processes:
        process.start()
    for number in range(ROUNDS):
        end_runs()
        for job in jobs:
            moment = due(job, ago=timedelta(minutes=15 * (ROUNDS - number)))
            Alarm.objects.filter(name=timers.name_of(job.pk)).update(args=str((job.pk, moment)))
        due_now()
        connections.close_all()
        for _ in range(3):
            barrier.wait()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    runs = Counter(Run.objects.values_list("job_name", flat=True))
    assert runs == {f"job-{number}": ROUNDS for number in range(JOBS)}
    assert set(Firing.objects.values_list("state", flat=True)) == {"ran"}
    assert hear() == []
    assert Alarm.objects.filter(func=timers.FIRE, repeats=1).count() == JOBS
