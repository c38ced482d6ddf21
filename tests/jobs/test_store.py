"""Jobs are saved as a whole or not at all."""

from __future__ import annotations

import pytest

from fetcher.engine.config import FetchConfig
from fetcher.options import RunOptions
from fetcher.store.runs import load_config, load_options
from jobs import store
from jobs.models import Job, JobShard, TargetList
from jobs.schedules import Kind, Schedule
from jobs.store import Wanted
from tests.rows import make_run
from tests.support.jobs import make_job

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["news", "a", "A.b_c-1", "9", "n" * 200])
def test_names_that_are_taken(name):
    assert store.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".", "a b", "a/b", "ä", "n" * 201, "a\n", "a\x00"])
def test_names_that_are_refused(name):
    with pytest.raises(ValueError, match="letters, digits"):
        store.check_name(name)


def test_no_job_is_created_with_a_name_that_could_forge_a_line_of_a_log():
    with pytest.raises(ValueError, match="letters, digits"):
        make_job("news\nERROR forged")
    assert not Job.objects.exists()


def test_options_come_back_as_they_were_with_secrets_that_no_row_shows():
    config = FetchConfig(per_host=3, headers=(("Authorization", "Bearer hidden"), ("X-A", "1")))
    make_job(config=config, options=RunOptions(data=b"hidden", extract="a.b"))
    job = Job.objects.get()
    assert "hidden" not in str(job.options)
    assert b"hidden" not in bytes(job.secrets or b"")
    assert load_config(job) == config
    assert load_options(job) == RunOptions(data=b"hidden", extract="a.b")


def test_a_schedule_comes_back_as_it_was():
    schedule = Schedule(kind=Kind.WEEKLY, weekday=3, at="07:05", time_zone="Asia/Tokyo")
    make_job(schedule=schedule)
    assert Job.objects.get().schedule == schedule


def test_the_defaults_are_the_designs():
    job = make_job()
    assert (job.schedule, job.overlap, job.missed, job.start_jitter) == (Schedule(), "skip", "one", 0)
    assert (job.keep_runs, job.keep_days, job.enabled) == (50, 30, True)


def test_a_second_job_of_a_name_is_refused_and_leaves_nothing():
    job = make_job()
    with pytest.raises(store.JobError, match="there is a job news already"):
        make_job()
    assert (Job.objects.get(), TargetList.objects.get()) == (job, job.list)


def test_a_change_leaves_what_was_not_asked_for():
    config = FetchConfig(headers=(("Authorization", "Bearer x"),))
    before = make_job(config=config, schedule=Schedule(kind=Kind.EVERY, every=5), keep_runs=7)
    store.change_job("news", Wanted(policies={"overlap": "queue"}))
    job = Job.objects.get()
    assert (job.overlap, job.keep_runs, job.schedule, job.options) == ("queue", 7, before.schedule, before.options)
    assert load_config(job) == config
    assert job.updated_at > before.updated_at


def test_pausing_says_whether_it_changed_anything():
    make_job()
    found = [store.pause_or_resume("news", enabled=enabled) for enabled in (False, False, True)]
    assert found == [True, False, True]


def test_a_job_that_is_removed_keeps_its_runs_and_nothing_else():
    job = make_job()
    run = make_run(job_id=job.pk, job_name=job.name)
    store.remove_job("news")
    run.refresh_from_db()
    assert run.job_name == "news"
    assert not any(model.objects.exists() for model in (Job, TargetList, JobShard))


@pytest.mark.parametrize("name", ["none", "x\x00y", "NEWS"])
def test_an_unknown_job_is_named(name):
    make_job()
    with pytest.raises(store.NoSuchJob, match="there is no job"):
        store.find_job(name)


@pytest.mark.parametrize(
    ("schedule", "runs"),
    [
        (Schedule(), 50),
        (Schedule(kind=Kind.EVERY, every=10), 432),
        (Schedule(kind=Kind.EVERY, every=1), 4320),
        (Schedule(kind=Kind.EVERY, every=120), 50),
        (Schedule(kind=Kind.DAILY, at="06:30"), 50),
        (Schedule(kind=Kind.CRON, cron="*/10 * * * *"), 432),
        (Schedule(kind=Kind.CRON, cron="0 0 29 2 *"), 50),
    ],
    ids=str,
)
def test_usual_keep_runs_covers_three_days_whatever_the_interval(schedule, runs):
    assert store.usual_keep_runs(schedule) == runs
    assert make_job(schedule=schedule).keep_runs == runs


def test_keep_runs_that_is_given_stays():
    often = Schedule(kind=Kind.EVERY, every=10)
    assert make_job(schedule=often, keep_runs=7).keep_runs == 7
    assert store.change_job("news", Wanted(schedule=Schedule(kind=Kind.EVERY, every=1))).keep_runs == 7


def test_usual_keep_runs_follows_a_change_of_the_schedule():
    make_job()
    assert store.change_job("news", Wanted(schedule=Schedule(kind=Kind.EVERY, every=10))).keep_runs == 432
    assert store.change_job("news", Wanted(schedule=Schedule(kind=Kind.DAILY, at="06:30"))).keep_runs == 50
