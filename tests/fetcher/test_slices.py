"""What a worker of the cluster does when it is woken: a slice of one run's work."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import httpx
import pytest
from django.db import connections
from django.utils import timezone

from fetcher import slices
from fetcher.dispatch import DispatchError
from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.models import HostPause, Lane, Result, Run, RunState, Waiting, Worker, lane_number
from fetcher.payloads import result_detail
from fetcher.slices import Slice, wake_lost, work_slice
from fetcher.store import cluster, leases, runs
from fetcher.store.plan import Planner
from tests.support.database_errors import busy
from tests.support.recording import RecordingDispatcher
from tests.support.stored import entries, plan
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = FetchConfig(concurrency=4, per_host=4, backoff_base=0.01)
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(slices, "LOOK", 0.05)
    monkeypatch.setattr(slices, "IDLE", 0.3)


def given(*urls: str, config: FetchConfig = CONFIG) -> int:
    """Return a run that the cluster has."""
    run = plan(*urls, config=config)
    cluster.hand_over(run)
    return run


def urls(host: str, count: int) -> list[str]:
    return [f"http://{host}.example/{number}" for number in range(count)]


async def fine(request: httpx.Request) -> httpx.Response:
    await asyncio.sleep(0.01)
    return httpx.Response(200)


def slice_of(
    run: int, answer: Answer = fine, dispatcher: RecordingDispatcher | None = None, seconds: float = 20
) -> Slice | None:
    return asyncio.run(
        bounded(
            work_slice(
                run,
                dispatcher or RecordingDispatcher(),
                seconds=seconds,
                transport=httpx.MockTransport(answer),
            )
        )
    )


async def bounded(work: Coroutine[Any, Any, Slice | None]) -> Slice | None:
    async with asyncio.timeout(30):
        return await work


def drain(run: int, answer: Answer, seconds: float) -> int:
    """Work slice after slice until the run is over; return how many it took."""
    for number in range(1, 100):
        done = slice_of(run, answer, seconds=seconds)
        assert done is not None
        if done.over:
            return number
    raise AssertionError("it does not end")


async def aside(call: Callable[[], Any]) -> Any:
    """Use the database from a coroutine."""

    def work() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


def state(run: int) -> str:
    return Run.objects.get(pk=run).state


def assert_nothing_is_held() -> None:
    assert not Worker.objects.exists()
    assert not Lane.objects.exclude(worker=None).exists()


class TestASlice:
    def test_completes_a_run_that_is_short(self):
        run, dispatcher = given(*urls("a", 10), *urls("b", 5)), RecordingDispatcher()
        assert slice_of(run, dispatcher=dispatcher) == Slice(run, 15, True)
        assert (state(run), dispatcher.woken) == (RunState.COMPLETED, [])
        assert_nothing_is_held()

    def test_is_none_where_no_run_needs_a_worker(self):
        run = given(*urls("a", 1))
        slice_of(run)
        assert slice_of(run) is None
        assert slice_of(99) is None

    def test_is_of_another_run_that_needs_it_more(self):
        busy_run, other = given(*urls("a", 1)), given(*urls("b", 1))
        leases.register_worker(busy_run)
        assert slice_of(busy_run) == Slice(other, 1, True)

    def test_ends_in_time_and_another_is_woken(self):
        run, dispatcher = given(*urls("a", 500)), RecordingDispatcher()
        done = slice_of(run, dispatcher=dispatcher, seconds=0.5)
        assert done is not None
        assert 0 < done.saved == Result.objects.count() < 500
        assert (done.over, state(run), dispatcher.woken) == (False, RunState.RUNNING, [run])
        assert_nothing_is_held()

    def test_after_slice_the_run_is_completed_and_each_target_was_fetched_once(self):
        asked: Counter[str] = Counter()

        async def answer(request: httpx.Request) -> httpx.Response:
            asked[str(request.url)] += 1
            return await fine(request)

        run = given(*urls("a", 100), *urls("b", 100))
        assert drain(run, answer, seconds=0.3) > 1
        assert state(run) == RunState.COMPLETED
        assert Result.objects.count() == 200
        assert set(asked.values()) == {1}

    def test_wakes_the_next_before_its_last_answer_is_in(self):
        """One host hangs; the lane of the other is free from the moment at which nothing is sent to it any more."""
        seen: dict[str, Any] = {}
        answered = asyncio.Event()

        def at_wake() -> None:
            if seen:
                return
            free = Lane.objects.filter(worker=None).values_list("number", flat=True)
            seen.update(answered=answered.is_set(), free=set(free), workers=Worker.objects.count())

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.host == "slow.example":
                await until(lambda: bool(seen), 10)
                await asyncio.sleep(0.05)
                answered.set()
            return await fine(request)

        run, dispatcher = given(*urls("slow", 1), *urls("a", 500)), RecordingDispatcher(at_wake=at_wake)
        done = slice_of(run, answer, dispatcher, seconds=0.5)
        assert done is not None
        assert not done.over
        assert seen == {"answered": False, "free": {lane_number("a.example:80")}, "workers": 1}
        assert answered.is_set()
        assert Result.objects.filter(target__host="slow.example:80").count() == 1

    def test_wakes_again_at_its_end_where_the_one_that_it_woke_has_nobody_there(self):
        run, dispatcher = given(*urls("a", 300), *urls("b", 300)), RecordingDispatcher()
        slice_of(run, dispatcher=dispatcher, seconds=0.3)
        assert set(dispatcher.woken) == {run}
        assert 1 <= len(dispatcher.woken) <= 2

    def test_does_not_wake_another_for_what_is_all_in_the_hands_of_others(self):
        run, dispatcher = given(*urls("a", 2), *urls("b", 2)), RecordingDispatcher()
        other = leases.register_worker(run)
        Lane.objects.filter(number=lane_number("a.example:80")).update(worker=other)
        done = slice_of(run, dispatcher=dispatcher)
        assert done == Slice(run, 2, False)
        assert dispatcher.woken == []

    def test_does_not_wake_another_where_it_could_do_nothing_itself(self, monkeypatch):
        """Or they would wake each other as fast as they can; the sweep has it tried once in a while."""
        monkeypatch.setattr(slices, "IDLE", 20)  # longer than the busiest machine takes to find nothing
        run, dispatcher = given(*urls("a", 1)), RecordingDispatcher()
        slice_of(run)
        Run.objects.update(state=RunState.RUNNING)
        cluster.hand_over(run)
        Lane.objects.update(planned=2)  # as if a counter were wrong
        assert slice_of(run, dispatcher=dispatcher) == Slice(run, 0, False)
        assert dispatcher.woken == []

    def test_keeps_a_part_of_the_concurrency_while_others_have_lanes(self, monkeypatch):
        """The other begins in the middle; both together never have more than the run may."""
        in_flight = peak = 0

        async def answer(request: httpx.Request) -> httpx.Response:
            nonlocal in_flight, peak
            in_flight += 1
            peak = max(peak, in_flight)
            await asyncio.sleep(0.02)
            in_flight -= 1
            return httpx.Response(200)

        run = given(*(url for number in range(12) for url in urls(f"h{number}", 60)))

        def holders() -> int:
            return Lane.objects.exclude(worker=None).values("worker").distinct().count()

        async def main() -> None:
            nonlocal peak
            transport = httpx.MockTransport(answer)
            both = [asyncio.ensure_future(work_slice(run, RecordingDispatcher(), transport=transport)) for _ in "12"]
            async with asyncio.timeout(30):
                while await aside(holders) < 2:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)  # what the first had sent before is answered
                peak = in_flight
                await asyncio.gather(*both)

        asyncio.run(main())
        assert Result.objects.count() == 720
        assert peak == CONFIG.concurrency


class TestARunThatIsRead:
    def planning(self, run: int) -> int:
        worker = leases.register_worker(run, sends=False)
        Run.objects.filter(pk=run).update(planned_at=None, planner=worker)
        return worker

    def test_has_its_slice_end_when_there_is_nothing_to_do_for_a_while(self):
        run, dispatcher = given(*urls("a", 3)), RecordingDispatcher()
        reader = self.planning(run)
        began = time.monotonic()
        done = slice_of(run, dispatcher=dispatcher)
        assert done == Slice(run, 3, False)
        assert time.monotonic() - began < 10
        assert dispatcher.woken == []
        assert list(Worker.objects.values_list("id", flat=True)) == [reader]

    def test_is_fed_with_what_is_planned_meanwhile(self, monkeypatch):
        monkeypatch.setattr(slices, "IDLE", 3)
        run = given(*urls("a", 3))
        reader = self.planning(run)
        planner = Planner(run, reader)

        def plan_more() -> None:
            planner.load()
            planner.add(entries(*urls("b", 4)))
            runs.planned(run)
            leases.let_go(reader)

        asked: list[str] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            if not asked:
                asked.append(request.url.host)
                await aside(plan_more)
            return await fine(request)

        assert slice_of(run, answer) == Slice(run, 7, True)
        assert state(run) == RunState.COMPLETED

    def test_whose_reader_is_gone_is_interrupted_once_all_that_was_accepted_is_fetched(self):
        run = given(*urls("a", 3))
        Run.objects.update(planned_at=None)
        assert slice_of(run) == Slice(run, 3, True)
        assert state(run) == RunState.INTERRUPTED


class TestAnotherRun:
    """It has somebody at first, so that the slice is of the first run; then he is gone."""

    def test_with_nobody_ends_a_slice_early(self, monkeypatch):
        monkeypatch.setattr(slices, "SHORTEST", 0.2)
        run, other, dispatcher = given(*urls("a", 2000)), given(*urls("b", 1)), RecordingDispatcher()
        theirs = leases.register_worker(other)

        async def answer(request: httpx.Request) -> httpx.Response:
            await aside(Worker.objects.filter(pk=theirs).delete)
            return await fine(request)

        began = time.monotonic()
        done = slice_of(run, answer, dispatcher)
        assert done is not None
        assert (done.run, done.over) == (run, False)
        assert time.monotonic() - began < 15
        assert set(dispatcher.woken) == {run}

    def test_that_was_lost_is_woken_meanwhile(self):
        run, lost, dispatcher = given(*urls("a", 100)), given(*urls("b", 1)), RecordingDispatcher()
        Run.objects.filter(pk=lost).update(woken_at=timezone.now() - 2 * cluster.UNHEARD)
        theirs = leases.register_worker(lost)

        async def answer(request: httpx.Request) -> httpx.Response:
            await aside(Worker.objects.filter(pk=theirs).delete)
            return await fine(request)

        slice_of(run, answer, dispatcher)
        assert dispatcher.woken == [lost]


class TestAClusterThatIsToStop:
    def test_begins_nothing_and_puts_the_message_back(self):
        run, dispatcher = given(*urls("a", 3)), RecordingDispatcher(ending=lambda: True)
        assert slice_of(run, dispatcher=dispatcher) is None
        assert dispatcher.woken == [run]
        assert not Worker.objects.exists()

    def test_ends_its_slice_and_wakes_somebody_else(self, monkeypatch):
        monkeypatch.setattr(slices, "LOOK", 0.1)
        asked: list[str] = []
        run, dispatcher = given(*urls("a", 2000)), RecordingDispatcher(ending=lambda: bool(asked))

        async def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.host)
            return await fine(request)

        done = slice_of(run, answer, dispatcher)
        assert done is not None
        assert not done.over
        assert set(dispatcher.woken) == {run}
        assert not Worker.objects.exists()


class TestWhatWasLost:
    @pytest.fixture
    def lost(self) -> list[int]:
        found = [given(*urls("a", 1)) for _ in range(3)]
        Run.objects.update(woken_at=timezone.now() - 2 * cluster.UNHEARD)
        return found

    def test_is_woken_once(self, lost):
        dispatcher = RecordingDispatcher()
        assert wake_lost(dispatcher) == dispatcher.woken == lost
        assert wake_lost(dispatcher) == []

    def test_is_left_to_the_messages_that_wait_where_there_are_some(self, lost):
        """On a cluster with too much to do there would be more of them every minute, and never fewer."""
        dispatcher = RecordingDispatcher(idle=False)
        assert wake_lost(dispatcher) == lost
        assert dispatcher.woken == []

    def test_is_found_again_later_where_the_queue_is_away(self, lost):
        with pytest.raises(DispatchError):
            wake_lost(RecordingDispatcher(error=DispatchError("no queue")))
        Run.objects.update(woken_at=timezone.now() - 2 * cluster.UNHEARD)
        assert wake_lost(RecordingDispatcher()) == lost


class TestAQueueThatIsAway:
    @pytest.mark.parametrize("error", [DispatchError("no queue"), busy()], ids=["queue", "its database"])
    def test_does_not_keep_a_slice_from_ending_in_time_and_the_run_is_found_by_the_sweep(self, error):
        run, dispatcher = given(*urls("a", 1000)), RecordingDispatcher(error=error)
        began = time.monotonic()
        done = slice_of(run, dispatcher=dispatcher, seconds=0.5)
        assert done is not None
        assert not done.over
        assert time.monotonic() - began < 15
        assert_nothing_is_held()
        Run.objects.update(woken_at=timezone.now() - cluster.UNHEARD - timedelta(seconds=1))
        assert cluster.sweep() == [run]


class TestTheEnd:
    def test_of_a_run_whose_options_cannot_be_used_here_is_its_failure(self, monkeypatch):
        monkeypatch.delenv("TRAWL_TEST_TOKEN", raising=False)
        run = given(*urls("a", 1), config=FetchConfig(headers=(("Authorization", EnvReference("TRAWL_TEST_TOKEN")),)))
        assert slice_of(run) == Slice(run, 0, True)
        row = Run.objects.get()
        assert row.state == RunState.FAILED
        assert "TRAWL_TEST_TOKEN, which is not set" in row.error
        assert_nothing_is_held()

    def test_of_a_run_whose_secrets_cannot_be_read_here_is_its_failure(self, settings):
        run = given(*urls("a", 1), config=FetchConfig(headers=(("Authorization", "Bearer x"),)))
        settings.SECRET_KEY = "another"
        assert slice_of(run) == Slice(run, 0, True)
        assert Run.objects.get().state == RunState.FAILED
        assert Run.objects.get().error

    def test_of_a_cancelled_run_comes_soon_and_nothing_new_is_sent(self):
        asked: list[str] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            if not asked:
                await aside(partial(runs.cancel, run))
            asked.append(request.url.path)
            return await fine(request)

        run, dispatcher = given(*urls("a", 2000)), RecordingDispatcher(idle=False)
        done = slice_of(run, answer, dispatcher)
        assert done is not None
        assert done.over
        assert len(asked) == done.saved < 2000
        assert (state(run), dispatcher.woken) == (RunState.CANCELLED, [])
        assert_nothing_is_held()

    def test_by_a_cancellation_lets_go_of_the_lanes_and_comes_through(self):
        run, dispatcher = given(*urls("a", 100)), RecordingDispatcher()
        asked: list[str] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            return await fine(request)

        async def main() -> None:
            work = asyncio.ensure_future(work_slice(run, dispatcher, transport=httpx.MockTransport(answer)))
            await until(lambda: len(asked) > 10, 10)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

        asyncio.run(main())
        assert_nothing_is_held()
        assert (dispatcher.woken, state(run)) == ([], RunState.RUNNING)

    def test_by_its_last_bound_cuts_what_hangs_and_another_goes_on(self, monkeypatch):
        """A transport that does not keep to the deadline of an attempt."""
        monkeypatch.setattr(slices, "RESERVE", 2)
        dispatcher = RecordingDispatcher()
        dispatcher.longest_attempt = 0.2

        async def hang(request: httpx.Request) -> httpx.Response:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            await asyncio.sleep(1000)
            raise AssertionError

        run = given(*urls("a", 3))
        began = time.monotonic()
        done = slice_of(run, hang, dispatcher, seconds=0.3)
        assert done == Slice(run, 0, False)
        assert time.monotonic() - began < 15
        assert dispatcher.woken == [run]
        assert_nothing_is_held()


class TestAttempts:
    def test_survive_slices(self):
        """503 with a Retry-After that is longer than a slice, as often as there are attempts."""
        asked: list[float] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            asked.append(time.monotonic())
            return httpx.Response(503, headers={"Retry-After": "1"})

        run = given(*urls("a", 1), config=FetchConfig(max_attempts=3))
        asked_by_slice: list[int] = []
        while not asked_by_slice or Waiting.objects.exists():
            before = len(asked)
            slice_of(run, answer, seconds=0.3)
            asked_by_slice.append(len(asked) - before)
        assert [count for count in asked_by_slice if count] == [1, 1, 1]
        result = Result.objects.get()
        assert (result.status, result.http_status, result.attempts, len(asked)) == ("failed", 503, 3, 3)
        log = result_detail(result.pk).attempt_log
        assert [(one.number, one.http_status, one.waited_ms) for one in log] == [
            (1, 503, 1000),
            (2, 503, 1000),
            (3, 503, None),
        ]
        assert all(later - earlier >= 1 for earlier, later in pairwise(asked))
        assert not Waiting.objects.exists()

    def test_a_host_that_asked_to_be_left_alone_is_by_the_next_slice(self):
        """Also for targets that were not tried."""
        asked: Counter[str] = Counter()

        async def answer(request: httpx.Request) -> httpx.Response:
            asked[str(request.url)] += 1
            await asyncio.sleep(0.01)
            return httpx.Response(429, headers={"Retry-After": "100"})

        run = given(*urls("a", 50), config=FetchConfig(concurrency=4, per_host=2))
        for _ in range(3):
            slice_of(run, answer, seconds=0.4)
        assert asked.total() == 2  # those that were in flight together
        assert HostPause.objects.get().host == "a.example:80"
        assert Waiting.objects.count() == 2


class TestHelp:
    """A cluster whose workers are all busy takes a message or two all the same, so that others hear of nothing."""

    @pytest.mark.parametrize(
        ("count", "fellows", "idle", "called"),
        [
            pytest.param(60, 0, True, True, id="there is work for more, and nobody is about to come"),
            pytest.param(60, 0, False, False, id="somebody may still come"),
            pytest.param(60, 7, True, False, id="there are as many as may be"),
            pytest.param(8, 0, True, False, id="one is enough"),
        ],
    )
    def test_is_called_for_while_a_slice_goes_on(self, monkeypatch, count, fellows, idle, called):
        monkeypatch.setattr(cluster, "TARGETS_A_WORKER", 10)
        monkeypatch.setattr(slices, "LOOK", 0.02)
        run, dispatcher = given(*urls("a", count)), RecordingDispatcher(idle=idle)
        for _ in range(fellows):
            leases.register_worker(run)
        slice_of(run, dispatcher=dispatcher, seconds=20)
        assert bool(dispatcher.woken) == called
