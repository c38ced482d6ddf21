"""A list that is planned here for the cluster."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fetcher.causes import parse_causes
from fetcher.dispatch import DispatchError
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.errors import ErrorKind
from fetcher.engine.references import EnvReference
from fetcher.engine.types import Status
from fetcher.listener import Listener
from fetcher.models import Result, Run, RunState, Worker
from fetcher.options import RunOptions
from fetcher.queueing import queue_again, queue_failures, queue_list
from fetcher.service import resume_run
from fetcher.sources import Entry, Input, Inputs, SourceError
from fetcher.store import cluster, leases, runs
from fetcher.store.plan import Planner
from fetcher.writer import Writer
from tests.support.dispatching import Noting, answers, drain, work
from tests.support.stored import entries, fetch, open_targets
from tests.support.waiting import until

CONFIG = FetchConfig()
OPTIONS = RunOptions()
URLS = [f"http://h{number}.example/" for number in range(5)]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh():
    Noting.reset()


class Heard:
    """A listener, and what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.listener = Listener(message=self.messages.append)

    @property
    def run(self) -> int:
        return self.listener.progress.run


def queue(given: Any, config: FetchConfig = CONFIG, control: Control | None = None, **more: Any) -> tuple[str, Heard]:
    heard = Heard()
    state = asyncio.run(
        queue_list(given, config, dispatcher=Noting(), listener=heard.listener, control=control, **more)
    )
    return state, heard


class Pipe:
    """A list that gives some entries, and then no more for as long as nobody lets it go on."""

    def __init__(self, *urls: str) -> None:
        self._urls = urls
        self.more = threading.Event()

    def __iter__(self) -> Iterator[Entry]:
        yield from entries(*self._urls)
        self.more.wait(20)


def stopped(cancel: Callable[[int], Any] | None = None) -> tuple[str, Heard]:
    """Queue a list that is never read to its end, until that is stopped, or the run cancelled elsewhere."""
    heard, control, pipe = Heard(), Control(), Pipe(*URLS)

    async def main() -> str:
        planning = asyncio.ensure_future(
            queue_list(pipe, CONFIG, dispatcher=Noting(), listener=heard.listener, control=control)
        )
        await until(lambda: heard.listener.progress.accepted == len(URLS))
        async with Writer() as elsewhere:
            await elsewhere(cancel, heard.run) if cancel else control.stop()
        async with asyncio.timeout(10):
            return await planning

    try:
        return asyncio.run(main()), heard
    finally:
        pipe.more.set()


class TestAList:
    def test_is_accepted_and_left_to_the_cluster(self):
        state, heard = queue(entries(*URLS))
        run = Run.objects.get()
        assert (state, run.pk, run.planner, Worker.objects.count()) == (RunState.PENDING, heard.run, None, 0)
        assert Run.objects.of_cluster().count() == 1
        assert Noting.woken == [run.pk]
        drain(run.pk)
        assert (Run.objects.get().state, Result.objects.count()) == (RunState.COMPLETED, len(URLS))

    def test_without_a_target_is_over(self):
        assert queue(entries("no url"))[0] == RunState.COMPLETED
        assert Noting.woken == []

    def test_whose_headers_name_a_variable_is_left_to_those_who_have_it(self):
        config = FetchConfig(headers=(("Authorization", EnvReference("NOT_SET_HERE")),))
        assert queue(entries(*URLS), config)[0] == RunState.PENDING
        drain(Run.objects.get().pk)
        run = Run.objects.get()
        assert run.state == RunState.FAILED
        assert "NOT_SET_HERE, which is not set" in run.error

    def test_that_breaks_off_is_an_error_and_what_was_read_is_fetched(self):
        def broken() -> Iterator[Entry]:
            yield from entries(*URLS)
            raise SourceError("urls.txt: reading stopped")

        with pytest.raises(SourceError):
            queue(broken())
        assert Noting.woken == [Run.objects.get().pk]
        drain(Run.objects.get().pk)
        assert (Run.objects.get().state, Result.objects.count()) == (RunState.INTERRUPTED, len(URLS))


class TestTheQueue:
    def test_that_cannot_be_reached_is_an_error_before_anything_is_saved(self):
        Noting.refusal = "the queue cannot be reached"
        with pytest.raises(DispatchError, match="cannot be reached"):
            queue(entries(*URLS))
        assert not Run.objects.exists()

    def test_that_goes_away_later_leaves_a_run_that_can_be_resumed(self):
        Noting.refusal, Noting.late = "the queue cannot be reached", True
        state, heard = queue(entries(*URLS))
        assert state == RunState.PENDING
        assert heard.messages == [
            "the queue cannot be reached; the run stays with the cluster, which looks for such runs every minute, and "
            "can be resumed"
        ]
        state = asyncio.run(resume_run(heard.run, transport=httpx.MockTransport(answers)))
        assert (state, Result.objects.count()) == (RunState.COMPLETED, len(URLS))

    def test_takes_no_attempt_that_is_longer_than_its_tasks(self):
        with pytest.raises(ConfigError, match="must be at most 500 on the cluster") as raised:
            queue(entries(*URLS), FetchConfig(deadline=501))
        assert raised.value.name == "deadline"
        assert not Run.objects.exists()


class TestStopping:
    def test_the_reading_leaves_what_was_accepted_to_the_cluster(self):
        state, heard = stopped()
        assert state == RunState.PENDING
        drain(heard.run)
        row = Run.objects.get()
        assert (row.state, row.planned_at, Result.objects.count()) == (RunState.INTERRUPTED, None, len(URLS))

    def test_comes_from_whoever_cancels_the_run(self):
        state, heard = stopped(lambda run: (runs.expect_secrets(run), runs.cancel(run)))
        row = Run.objects.get()
        assert (state, row.state, row.secrets, row.planner) == (RunState.CANCELLED, RunState.CANCELLED, None, None)
        assert (Worker.objects.count(), len(open_targets(heard.run))) == (0, len(URLS))


class TestResuming:
    def interrupted(self, tmp_path) -> int:
        """Return a run of a file of which one line is planned."""
        (tmp_path / "list").write_text("\n".join(URLS))
        inputs = Inputs([Input.file(str(tmp_path / "list"))])
        run = runs.create_run(CONFIG, inputs=inputs.dump())
        worker = leases.register_worker(run)
        runs.start(run, worker)
        Planner(run, worker, offset=inputs.offset).add([next(iter(inputs))])
        leases.let_go(worker)
        runs.finish(run, worker=worker)
        return run

    def test_gives_an_interrupted_run_to_the_cluster_and_reads_on(self, tmp_path):
        run = self.interrupted(tmp_path)
        assert asyncio.run(queue_again(run, dispatcher=Noting())) == RunState.PENDING
        drain(run)
        assert (Run.objects.get().state, Result.objects.count()) == (RunState.COMPLETED, len(URLS))

    def test_here_takes_a_run_from_the_cluster(self):
        _, heard = queue(entries(*URLS))
        state = asyncio.run(resume_run(heard.run, transport=httpx.MockTransport(answers)))
        assert (state, Run.objects.get().woken_at) == (RunState.COMPLETED, None)
        assert asyncio.run(work(heard.run)) is None

    def test_here_is_refused_while_workers_of_the_cluster_are_on_it(self, monkeypatch):
        monkeypatch.setattr("fetcher.lead.PATIENCE", 0.0)
        _, heard = queue(entries(*URLS))
        cluster.begin(heard.run, 8)
        with pytest.raises(runs.RunBusy, match=f"run {heard.run} is in progress on the cluster: process"):
            asyncio.run(resume_run(heard.run))
        assert Run.objects.get().woken_at is not None

    def test_there_is_refused_where_there_is_nothing_to_read_and_workers_are_on_it(self, monkeypatch):
        monkeypatch.setattr("fetcher.lead.PATIENCE", 0.0)
        _, heard = queue(entries(*URLS))
        cluster.begin(heard.run, 8)
        with pytest.raises(runs.RunBusy, match="the cluster works on run"):
            asyncio.run(queue_again(heard.run, dispatcher=Noting()))

    def test_there_wakes_the_cluster_once_more_for_what_it_has(self):
        _, heard = queue(entries(*URLS))
        assert asyncio.run(queue_again(heard.run, dispatcher=Noting())) == RunState.PENDING
        assert Noting.woken == [heard.run] * 2

    def test_there_reads_on_beside_the_workers(self, tmp_path):
        run = self.interrupted(tmp_path)
        cluster.hand_over(run)
        _, worker = cluster.begin(run, 8) or (0, 0)
        assert asyncio.run(queue_again(run, dispatcher=Noting())) == RunState.RUNNING
        assert Run.objects.get().planned_at is not None
        cluster.end(run, worker, woken=False)
        drain(run)
        assert (Run.objects.get().state, Result.objects.count()) == (RunState.COMPLETED, len(URLS))


def test_failures_are_fetched_again_as_a_run_of_the_cluster():
    parent = fetch(*URLS, status=Status.FAILED, error_kind=ErrorKind.TIMEOUT)
    heard = Heard()
    state = asyncio.run(
        queue_failures(parent, parse_causes("timeout"), CONFIG, OPTIONS, dispatcher=Noting(), listener=heard.listener)
    )
    assert (state, heard.listener.progress.accepted) == (RunState.PENDING, len(URLS))
    drain(heard.run)
    assert Run.objects.get(pk=heard.run).state == RunState.COMPLETED
