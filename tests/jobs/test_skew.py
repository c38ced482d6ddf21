"""A machine whose clock is an hour off: it works, and the cluster's status names it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import httpx
import pytest
from django.db import connection
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ

from fetcher.engine.config import FetchConfig
from fetcher.models import Run, RunState
from fetcher.models.clock import database_now
from fetcher.payloads import run_items
from fetcher.slices import Slice, work_slice
from fetcher.store import cluster
from jobs import brokers
from jobs.firing import fire_job
from jobs.models import Cluster, Firing
from jobs.schedules import Kind, Schedule
from jobs.status import cluster_status
from tests.jobs.test_brokers import Guard
from tests.support.jobs import make_job
from tests.support.recording import RecordingDispatcher
from tests.support.stored import plan

pytestmark = pytest.mark.django_db(transaction=True)

OFF = [pytest.param(3600, id="ahead"), pytest.param(-3600, id="behind")]


@pytest.fixture
def skewed(monkeypatch, request) -> float:
    """Set this machine's clock by so many seconds; the database, on another machine, keeps its own."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has the machine's clock")
    seconds = float(request.param)
    now, epoch = timezone.now, time.time
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=seconds))
    monkeypatch.setattr(time, "time", lambda: epoch() + seconds)
    return seconds


@pytest.mark.parametrize("skewed", OFF, indirect=True)
def test_skewed_machine_is_named_by_the_cluster_s_status(skewed):
    Guard().tell()
    assert Cluster.objects.get().skew == pytest.approx(skewed, abs=60)
    direction = "ahead of" if skewed > 0 else "behind"
    [line] = [line for line in cluster_status().problems if "clock" in line]
    assert f"{direction} the database's: its schedules go off at the wrong time" in line


def test_clock_that_is_right_has_no_skew():
    assert abs(brokers.clock_skew()) < brokers.BEAT


@pytest.mark.parametrize("skewed", OFF, indirect=True)
def test_skewed_machine_works_and_its_run_takes_as_long_as_it_took(skewed):
    run = plan(*(f"http://a.example/{number}" for number in range(5)), config=FetchConfig())
    cluster.hand_over(run)
    assert cluster.sweep() == []  # it was told of just now

    async def main() -> Slice | None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        async with asyncio.timeout(30):
            return await work_slice(run, RecordingDispatcher(), seconds=20, transport=transport)

    assert asyncio.run(main()) == Slice(run, 5, True)
    row = Run.objects.get()
    assert row.state == RunState.COMPLETED
    assert row.started_at is not None
    assert row.finished_at is not None
    assert timedelta() < row.finished_at - row.started_at < timedelta(seconds=60)
    assert abs(database_now() - row.finished_at) < timedelta(seconds=60)


@pytest.mark.parametrize("skewed", OFF, indirect=True)
def test_run_that_another_machine_works_on_is_shown_as_running(skewed):
    run = plan("http://a.example/")
    cluster.hand_over(run)
    assert cluster.begin(run, 1)
    assert run_items(Run.objects.filter(pk=run))[0].state == "running"
    assert Run.objects.in_state("interrupted").count() == 0


@pytest.mark.parametrize("skewed", [-3600.0], indirect=True)
def test_skewed_machine_takes_messages_of_others_and_leaves_what_they_work_on(skewed):
    queue = brokers.OrmBroker(list_key=Conf.CLUSTER_NAME)
    sent = queue.enqueue("payload")
    OrmQ.objects.update(lock=database_now() - timedelta(seconds=1))  # as a machine with the right time sent it
    assert queue.queue_size() == 1
    assert queue.dequeue() == [(sent, "payload")]
    assert (queue.queue_size(), queue.lock_size()) == (0, 1)
    assert queue.dequeue() is None


@pytest.mark.parametrize("skewed", [3600.0], indirect=True)
def test_job_does_not_begin_before_its_time_on_a_machine_that_is_ahead(skewed):
    job = make_job(schedule=Schedule(kind=Kind.EVERY, every=30))
    due = (database_now() + timedelta(minutes=30)).replace(second=0, microsecond=0)
    due -= timedelta(minutes=due.minute % 30)
    assert fire_job(job.pk, due.isoformat()) in ("not due yet", "not due any more")
    assert not Firing.objects.exists()
