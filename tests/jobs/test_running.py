"""A job's run: its list copied, its policies kept, its old runs removed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest
from django.db import transaction
from django.utils import timezone

from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Target as Wanted
from fetcher.models import Lane, Result, Run, RunState, Shard, Target
from fetcher.options import RunOptions
from fetcher.sources import Entry
from fetcher.store import leases, runs, shards
from jobs import store
from jobs.models import Job, JobShard
from jobs.running import expired_runs, fetch_job, prune_job
from tests.rows import NOON, make_result, make_run
from tests.support.jobs import CONFIG, OPTIONS, make_job
from tests.support.stored import open_targets, side_by_side

LOCAL = FetchConfig(max_attempts=1)


def begin(job: Job) -> int:
    return store.begin_run(job.name, CONFIG, OPTIONS)


def fetched(job: Job, config: FetchConfig = LOCAL, options: RunOptions = OPTIONS) -> list[httpx.Request]:
    """Run a job against a transport that answers everything, and return what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"content")

    state = asyncio.run(fetch_job(job.name, config, options, transport=httpx.MockTransport(answer)))
    assert state == RunState.COMPLETED
    return asked


@pytest.mark.django_db
class TestABegunRun:
    def test_has_the_lists_targets_in_their_order_and_lanes(self):
        urls = [f"http://h{number % 3}/{number}" for number in range(20)]
        run = begin(make_job("news", *urls, options=RunOptions(split_hosts=2)))
        assert [target.url for target in open_targets(run)] == urls
        assert (Lane.objects.filter(run=run).count(), runs.pending(run)) == (6, 20)

    def test_costs_no_target_and_no_payload_anew(self):
        job = make_job()
        before = (Target.objects.count(), sorted(map(bytes, JobShard.objects.values_list("payload", flat=True))))
        begin(job)
        assert (Target.objects.count(), sorted(map(bytes, Shard.objects.values_list("payload", flat=True)))) == before

    def test_is_planned_and_knows_its_job(self):
        job = make_job("news", "http://a/1", "http://a/1", "no url")
        run = Run.objects.get(pk=begin(job))
        assert (run.job_id, run.job_name, run.label, run.source) == (job.pk, "news", "news", "job news")
        assert run.planned_at is not None
        assert (run.duplicates, run.rejected) == (0, 0)  # nothing was read: those were the import's

    def test_keeps_its_own_copy_of_secrets(self):
        target = Wanted("http://a/", "a:80", headers=(("Authorization", "Bearer x"),))
        job = make_job(given=[Entry("list", 1, target)])
        run = begin(job)
        assert Run.objects.get(pk=run).secrets is not None
        runs.finish(run, failed=True)
        assert shards.decode_payload(bytes(Shard.objects.get().payload)).sealed is None
        assert shards.decode_payload(bytes(JobShard.objects.get().payload)).sealed is not None

    def test_is_one_at_a_time(self):
        job = make_job()
        run = begin(job)
        runs.start(run, leases.register_worker(run))
        with pytest.raises(store.JobBusy) as caught:
            begin(job)
        assert (caught.value.run, Run.objects.count()) == (run, 1)

    def test_is_not_held_up_by_another_jobs(self):
        other = begin(make_job("other"))
        runs.start(other, leases.register_worker(other))
        assert begin(make_job())

    def test_of_a_job_that_was_removed_is_none(self):
        job = make_job()
        store.remove_job("news")
        with pytest.raises(store.NoSuchJob):
            begin(job)


@pytest.mark.django_db(transaction=True)
def test_of_two_that_begin_at_once_one_begins():
    job = make_job()

    def started() -> int:
        try:
            with transaction.atomic():
                run = begin(job)
                runs.start(run, leases.register_worker(run))
        except store.JobBusy:
            return 0
        return run

    found = side_by_side(started, started)
    assert (found.count(0), Run.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
class TestAFetchedRun:
    def test_has_a_result_of_each_target(self):
        asked = fetched(make_job("news", "http://a.example/1", "http://b.example/2"))
        assert sorted(str(request.url) for request in asked) == ["http://a.example/1", "http://b.example/2"]
        run = Run.objects.get()
        assert (run.state, Result.objects.filter(run=run, status="succeeded").count()) == (RunState.COMPLETED, 2)

    def test_sends_the_secrets_of_job_and_targets_each_time(self):
        target = Wanted("http://a.example/", "a.example:80", headers=(("X-Api-Key", "own"),))
        config = FetchConfig(max_attempts=1, headers=(("Authorization", "Bearer x"),))
        job = make_job(given=[Entry("list", 1, target)], config=config)
        for _ in range(2):
            row = Job.objects.get()
            [request] = fetched(job, runs.load_config(row), runs.load_options(row))
            assert (request.headers["Authorization"], request.headers["X-Api-Key"]) == ("Bearer x", "own")
        assert set(Run.objects.values_list("secrets", flat=True)) == {None}


@pytest.mark.django_db
class TestRetention:
    @pytest.fixture
    def job(self) -> Job:
        return make_job(keep_runs=2, keep_days=30)

    def ended(self, job: Job, days: int) -> int:
        when = timezone.now() - timedelta(days=days)
        return make_run(job_id=job.pk, job_name=job.name, finished_at=when, created_at=NOON).pk

    def test_is_what_is_too_many_or_too_old(self, job):
        ids = [self.ended(job, days) for days in (40, 3, 31, 1)]
        assert expired_runs(job) == ids[:3]

    def test_leaves_runs_of_others_and_runs_in_progress(self, job):
        make_run(finished_at=timezone.now() - timedelta(days=99))
        old = self.ended(job, 99)
        Run.objects.filter(pk=old).update(state=RunState.RUNNING)
        leases.register_worker(old)
        assert expired_runs(job) == []

    def test_removes_runs_with_what_only_they_had(self, job):
        old = self.ended(job, 99)
        make_result(Run.objects.get(pk=old))
        kept = self.ended(job, 1)
        assert prune_job(job).runs == 1
        assert (list(Run.objects.values_list("id", flat=True)), Result.objects.count()) == ([kept], 0)
