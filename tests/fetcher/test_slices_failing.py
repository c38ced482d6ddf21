"""Slices that fail one after the other, and workers that are gone: what becomes of their run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from django.db import OperationalError

from fetcher import slices
from fetcher.engine.config import FetchConfig
from fetcher.models import Lane, Result, Run, RunState, Worker
from fetcher.models.clock import database_now
from fetcher.slices import Slice, work_slice
from fetcher.store import cluster, leases, trouble
from tests.support.recording import RecordingDispatcher
from tests.support.stored import plan

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = FetchConfig(concurrency=4, per_host=4, backoff_base=0.01)
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(slices, "LOOK", 0.05)
    monkeypatch.setattr(slices, "IDLE", 0.3)
    monkeypatch.setattr(trouble, "_TOGETHER", timedelta())


def given(*urls: str) -> int:
    """Return a run that the cluster has."""
    run = plan(*urls, config=CONFIG)
    cluster.hand_over(run)
    return run


async def fine(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


def slice_of(run: int, answer: Answer = fine, seconds: float = 20) -> Slice | None:
    async def main() -> Slice | None:
        async with asyncio.timeout(30):
            transport = httpx.MockTransport(answer)
            return await work_slice(run, RecordingDispatcher(), seconds=seconds, transport=transport)

    return asyncio.run(main())


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def fetch(self: object) -> None:
        raise error

    monkeypatch.setattr(slices._Slice, "_fetch", fetch)


def told(run: int) -> str | None:
    row = Run.objects.get(pk=run)
    return trouble.told_of(row.trouble, Result.objects.filter(run=run).count())


def test_slice_that_fails_lets_go_of_its_lanes_and_counts_them_as_lost(monkeypatch):
    run = given("http://a.example/")

    async def cancelling(request: httpx.Request) -> httpx.Response:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="a worker was cancelled"):
        slice_of(run, cancelling)
    assert not Worker.objects.exists()
    lane = Lane.objects.get()
    assert (lane.worker, lane.takeovers) == (None, 1)
    assert Run.objects.get().state == RunState.RUNNING


def test_target_at_which_every_slice_fails_is_given_up_and_the_others_are_fetched():
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/7":
            raise asyncio.CancelledError  # what a broken transport may do, and no engine can tell from its own end
        return await fine(request)

    run = given(*(f"http://a.example/{number}" for number in range(10)))
    for _ in range(12):
        try:
            done = slice_of(run, answer)
        except RuntimeError:
            continue
        assert done is not None
        if done.over:
            break
    assert Run.objects.get().state == RunState.COMPLETED
    assert Result.objects.filter(status="succeeded").count() == 9
    assert Result.objects.get(target__url="http://a.example/7").error_kind == "internal"


def test_run_whose_slices_all_fail_is_shown_and_ends_as_failed(monkeypatch):
    run = given("http://a.example/")
    fail_with(monkeypatch, ValueError("a defect with data"))
    for number in range(1, trouble.MOST):
        with pytest.raises(ValueError, match="a defect"):
            slice_of(run)
        assert bool(told(run)) == (number >= trouble.SHOWN_FROM)
    assert f"{trouble.MOST - 1} slices in a row failed" in (told(run) or "")
    assert slice_of(run) == Slice(run, 0, True)
    row = Run.objects.get()
    assert row.state == RunState.FAILED
    assert row.error.startswith(f"{trouble.MOST} slices in a row failed without saving a result, the last: ValueError")
    assert "with data" not in row.error
    assert not Run.objects.alive(database_now()).exists()  # the next run of its job can begin


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OperationalError("database is locked")], ids=["disk", "database"]
)
def test_outage_is_shown_and_never_ends_a_run(monkeypatch, error):
    run = given("http://a.example/")
    fail_with(monkeypatch, error)
    for _ in range(trouble.MOST + 2):
        with pytest.raises(type(error)):
            slice_of(run)
    assert Run.objects.get().state == RunState.RUNNING
    assert str(error.args[-1]) in (told(run) or "")
    assert "ends as failed" not in (told(run) or "")


def test_slices_that_fail_are_counted_anew_once_there_is_a_result(monkeypatch):
    run = given("http://a.example/", "http://a.example/2")
    with monkeypatch.context() as broken:
        fail_with(broken, ValueError("a defect"))
        for _ in range(3):
            with pytest.raises(ValueError, match="a defect"):
                slice_of(run)
    assert told(run)
    slice_of(run)
    assert Run.objects.get().trouble is None


def test_slices_that_fail_at_once_count_as_one(monkeypatch):
    monkeypatch.setattr(trouble, "_TOGETHER", timedelta(seconds=30))
    run = given("http://a.example/")
    assert [trouble.note(run, "a machine was lost") for _ in range(10)] == [1] * 10


# Workers that are gone.


def lost_worker(run: int) -> int:
    """Return a worker of another machine whose row does not move any more, and that holds the run's lanes."""
    worker = leases.register_worker(run)
    leases.lease_lanes(run, worker)
    Worker.objects.filter(pk=worker).update(hostname="elsewhere", expires_at=database_now() - timedelta(seconds=1))
    return worker


def test_what_was_seen_of_a_lost_worker_outlasts_a_slice_and_its_lanes_are_taken(monkeypatch):
    """Each slice is shorter than a lost worker must be observed."""
    monkeypatch.setattr(leases, "OBSERVED", 1.5)
    monkeypatch.setattr(slices, "WATCH", leases.Watch())
    run = given(*(f"http://h{number}.example/" for number in range(12)))
    lost = lost_worker(run)
    for _ in range(10):
        done = slice_of(run, seconds=0.5)
        if done is not None and done.over:
            break
    assert Run.objects.get().state == RunState.COMPLETED
    assert Result.objects.filter(status="succeeded").count() == 12
    assert not Worker.objects.filter(pk=lost).exists()


def test_row_of_a_worker_that_renews_stays_whatever_was_seen(monkeypatch):
    monkeypatch.setattr(leases, "OBSERVED", 0.0)
    run = given("http://a.example/")
    other, me = lost_worker(run), leases.register_worker(run)
    seen = leases.Watch().gone(but=me)
    leases.renew(other)
    assert not leases.bury(other, seen[other])
    assert Lane.objects.get().worker_id == other
    assert Lane.objects.get().takeovers == 0


@pytest.mark.parametrize(("left", "removed"), [(timedelta(minutes=-11), True), (timedelta(minutes=-9), False)])
def test_sweep_removes_old_rows_of_workers_that_hold_nothing_of_a_run_that_goes_on(left, removed):
    finished = given("http://a.example/")
    lost = lost_worker(finished)
    Run.objects.filter(pk=finished).update(state=RunState.COMPLETED)
    held = lost_worker(given("http://b.example/"))
    Worker.objects.update(expires_at=database_now() + left)
    cluster.sweep()
    assert Worker.objects.filter(pk=held).exists()
    assert Worker.objects.filter(pk=lost).exists() != removed


def test_death_of_a_cluster_s_worker_is_counted_once():
    run = given("http://a.example/")
    lost = lost_worker(run)
    expires = Worker.objects.get(pk=lost).expires_at
    assert [leases.bury(lost, expires) for _ in range(2)] == [True, False]
    assert Run.objects.get().trouble["failures"] == 1
    assert "elsewhere" in Run.objects.get().trouble["reason"]
