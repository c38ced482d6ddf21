"""A run of the cluster, followed from here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from fetcher import following
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.following import follow_queued
from fetcher.listener import Listener
from fetcher.models import Result, Run, RunState
from fetcher.queueing import queue_again, queue_list
from fetcher.service import resume_run
from fetcher.sources import SourceError
from fetcher.store import cluster, runs
from fetcher.writer import Writer
from tests.support.dispatching import Noting, answers, work
from tests.support.stored import entries, open_targets, outcome, plan, record
from tests.support.waiting import until

CONFIG = FetchConfig()
URLS = [f"http://h{number}.example/" for number in range(20)]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    Noting.reset()
    monkeypatch.setattr(following, "LOOK", 0.02)


class Following:
    """Somebody who follows a run, and what is heard meanwhile."""

    def __init__(self) -> None:
        self.control = Control()
        self.messages: list[str] = []
        self.ids: list[int] = []
        self.listener = Listener(message=self.messages.append, recorded=self.ids.extend)
        self.progress = self.listener.progress

    def follow(
        self,
        during: Callable[[], Awaitable[Any]] | None = None,
        planning: Any = None,
        *,
        wait: bool = True,
        **options: Any,
    ) -> RunState:
        async def main() -> RunState:
            plan = planning or queue_list(entries(*URLS), CONFIG, dispatcher=Noting(), listener=self.listener)
            task = asyncio.ensure_future(follow_queued(plan, self.listener, self.control, wait=wait, **options))
            async with asyncio.timeout(20):
                if during is not None:
                    await until(lambda: self.progress.planned or task.done(), 10)
                    await during()
                return await task

        return asyncio.run(main())

    async def fetch(self) -> None:
        while (done := await work(self.progress.run)) is not None and not done.over:
            pass


async def elsewhere(call: Callable[[], Any]) -> None:
    """Call a function of the store as another process would."""
    async with Writer() as writer:
        await writer(call)


def test_waits_for_the_end_and_counts_what_the_workers_save():
    following_ = Following()
    assert following_.follow(following_.fetch) == RunState.COMPLETED
    progress = following_.progress
    assert (progress.done, progress.accepted, progress.bytes) == (20, 20, 20 * len(b"content"))
    assert following_.ids == []


def test_hears_of_each_result_once_where_that_is_asked_for():
    following_ = Following()
    following_.follow(following_.fetch, results=True)
    assert sorted(following_.ids) == sorted(Result.objects.values_list("id", flat=True))


def test_of_a_run_that_was_there_hears_what_is_new():
    run = plan(*URLS)
    before = record(run, [outcome(target) for target in open_targets(run)[:7]])
    runs.finish(run)
    following_ = Following()
    following_.follow(
        following_.fetch,
        queue_again(run, dispatcher=Noting(), listener=following_.listener),
        results=True,
        known=run,
    )
    assert set(following_.ids) == set(Result.objects.values_list("id", flat=True)) - set(before)
    assert (len(following_.ids), following_.progress.done, following_.progress.earlier) == (13, 20, 7)


def test_without_waiting_ends_once_all_is_accepted():
    following_ = Following()
    assert following_.follow(wait=False) == RunState.PENDING
    assert (following_.progress.accepted, following_.progress.done) == (20, 0)


def test_leaves_the_run_where_it_is_once_it_is_stopped():
    following_ = Following()

    async def stop() -> None:
        following_.control.stop()

    assert following_.follow(stop) == RunState.PENDING
    assert Run.objects.of_cluster().count() == 1


class TestTheEnd:
    def test_is_told_where_somebody_cancels_the_run(self):
        following_ = Following()

        async def cancel() -> None:
            await elsewhere(lambda: runs.cancel(following_.progress.run))

        assert following_.follow(cancel) == RunState.CANCELLED

    def test_of_workers_that_are_cancelled_is_waited_for(self):
        following_ = Following()
        asked = []

        async def slow(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            await asyncio.sleep(0.3)
            return httpx.Response(200)

        async def cancel() -> None:
            working = asyncio.ensure_future(work(following_.progress.run, transport=httpx.MockTransport(slow)))
            await until(lambda: bool(asked))
            await elsewhere(lambda: runs.cancel(following_.progress.run))
            await working

        assert following_.follow(cancel) == RunState.CANCELLED
        assert following_.progress.done == Result.objects.count() > 0

    def test_is_told_where_the_run_fails(self):
        following_ = Following()

        async def fail() -> None:
            def end() -> None:
                run, worker = cluster.begin(following_.progress.run, 8) or (0, 0)
                cluster.fail(run, worker, "no secret")

            await elsewhere(end)

        assert following_.follow(fail) == RunState.FAILED

    def test_is_told_where_somebody_finishes_it_elsewhere(self):
        following_ = Following()

        async def finish() -> None:
            await resume_run(following_.progress.run, transport=httpx.MockTransport(answers))

        assert following_.follow(finish) == RunState.COMPLETED

    def test_of_a_list_that_breaks_off_comes_when_what_was_read_is_fetched(self):
        following_ = Following()

        def broken():
            yield from entries(*URLS)
            raise SourceError("urls.txt: reading stopped")

        async def fetch() -> None:
            await following_.fetch()

        async def both() -> None:
            planning = queue_list(broken(), CONFIG, dispatcher=Noting(), listener=following_.listener)
            task = asyncio.ensure_future(follow_queued(planning, following_.listener, following_.control, wait=True))
            await until(lambda: bool(Noting.woken))
            await asyncio.sleep(0.1)
            await fetch()
            async with asyncio.timeout(10):
                await task

        with pytest.raises(SourceError):
            asyncio.run(both())
        assert following_.progress.done == 20


def test_says_once_that_nobody_works_on_it(monkeypatch):
    monkeypatch.setattr(following, "PATIENCE", 0.1)
    following_ = Following()

    async def wait() -> None:
        await until(lambda: bool(following_.messages))
        await asyncio.sleep(0.3)
        following_.control.stop()

    following_.follow(wait, hint=" Start one")
    run = following_.progress.run
    assert following_.messages == [
        f"nobody has worked on run {run} for 0.1 s: is a cluster running, and not busy with other runs? Start one"
    ]
