"""The use case: a list of URLs is planned, fetched and saved."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator

import httpx
import pytest
from django.db import DatabaseError
from django.db.models import F

from fetcher.bodies import read_body
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.listener import Listener
from fetcher.models import Lane, Result, Run, RunState, Shard, Worker
from fetcher.options import RunOptions
from fetcher.reading import CAPACITY
from fetcher.service import fetch_failures, fetch_list
from fetcher.sink import BATCH_BYTES
from fetcher.sources import Entry, SourceError
from tests.support.stored import entries
from tests.support.waiting import until

LOOPBACK = (AllowedNetwork.parse("127.0.0.1/32"),)
CONFIG = FetchConfig(allowed_networks=LOOPBACK, backoff_base=0.01, max_attempts=2)

pytestmark = pytest.mark.django_db(transaction=True)


def fetch(given: Iterable[Entry], config: FetchConfig = CONFIG, **options) -> RunState:
    return asyncio.run(fetch_list(given, config, **options))


def fetch_until(condition: Callable[[Listener], bool], source: Iterable[Entry], config=CONFIG, **options) -> Listener:
    """Fetch until the condition holds, then cancel; the cancellation must come out again."""
    listener = options.pop("listener", None) or Listener()

    async def main() -> None:
        task = asyncio.ensure_future(fetch_list(source, config, listener=listener, **options))
        try:
            await until(lambda: task.done() or condition(listener), 20)
        finally:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    return listener


def fine(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=request.url.path.encode())


def assert_nothing_is_held() -> None:
    assert not Worker.objects.exists()
    assert not Lane.objects.exclude(worker=None).exists()


class TestTheFiguresAtTheEnd:
    def test_count_what_a_worker_saved_that_was_killed_before_it_told(self):
        listener = Listener(recorded=lambda ids: Lane.objects.update(planned=F("planned") + 1, failed=F("failed") + 1))
        fetch(entries("http://a.example/"), listener=listener, transport=httpx.MockTransport(fine))
        assert (listener.progress.done, listener.progress.failed) == (2, 1)


class TestARun:
    def test_saves_one_result_for_each_target(self, threaded_origin):
        urls = [threaded_origin.url(f"/ok/{number}", number % 3) for number in range(30)]
        urls += [threaded_origin.url("/missing/1"), threaded_origin.url("/flaky/1"), threaded_origin.url("/reset/1")]
        listener = Listener()

        assert fetch(entries(*urls), label="all", source="list", listener=listener) == RunState.COMPLETED

        found = Result.objects.select_related("target", "representation__body")
        results = {result.target.url: result for result in found}
        assert results.keys() == set(urls)
        assert read_body(results[urls[7]].representation.body) == b'{"ok": 7}'
        endings = [(results[url].status, results[url].error_kind, results[url].attempts) for url in urls[-3:]]
        assert endings == [("failed", "http_status", 1), ("succeeded", None, 2), ("failed", "protocol", 2)]
        assert {result.position: result.target.url for result in results.values()} == dict(enumerate(urls))
        run = Run.objects.get()
        assert (run.state, run.label, run.source) == ("completed", "all", "list")
        assert None not in (run.started_at, run.planned_at, run.finished_at)
        assert not Shard.objects.filter(done_at=None).exists()
        assert_nothing_is_held()

    def test_tells_the_listener(self, threaded_origin):
        started, rejected, recorded = [], [], []
        listener = Listener(started=started.append, rejected=rejected.append, recorded=recorded.extend)
        urls = [threaded_origin.url(f"/ok/{number}") for number in range(5)]

        fetch(entries(*urls, "no url", urls[0]), listener=listener)

        progress = listener.progress
        assert started == [progress.run] == [Run.objects.get().pk]
        assert [entry.line for entry in rejected] == [6]
        assert sorted(recorded) == sorted(Result.objects.values_list("id", flat=True))
        assert (progress.accepted, progress.done, progress.failed) == (5, 5, 0)
        assert (progress.duplicates, progress.rejected, progress.planned) == (1, 1, True)

    def test_of_nothing_is_completed(self):
        assert fetch([]) == RunState.COMPLETED

    def test_again_asks_whether_anything_changed(self, threaded_origin):
        urls = [threaded_origin.url(f"/etag/{number}") for number in range(10)]
        fetch(entries(*urls))
        fetch(entries(*urls))
        second = Result.objects.filter(run=Run.objects.latest("id").pk)
        assert set(second.values_list("status", "http_status", "changed", "bytes")) == {("not_modified", 304, False, 0)}
        first = Result.objects.exclude(run=Run.objects.latest("id").pk)
        bodies = dict(first.values_list("target", "representation__body"))
        assert dict(second.values_list("target", "representation__body")) == bodies

    def test_over_the_failures_of_another_fetches_nothing_else(self):
        asked = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            return httpx.Response(404 if request.url.path == "/1" and len(asked) <= 3 else 200)

        transport = httpx.MockTransport(answer)
        fetch(entries(*(f"http://a.example/{number}" for number in range(3))), transport=transport)
        listener = Listener()
        again = fetch_failures(Run.objects.get().pk, (), CONFIG, RunOptions(), listener=listener, transport=transport)

        assert asyncio.run(again) == RunState.COMPLETED
        assert asked[3:] == ["/1"]
        assert (listener.progress.accepted, listener.progress.done, listener.progress.failed) == (1, 1, 0)
        assert_nothing_is_held()

    def test_keeps_a_condition_that_the_operator_set_from_meeting_our_own_body(self):
        def answer(request: httpx.Request) -> httpx.Response:
            matched = request.headers.get("if-none-match") == '"theirs"'
            return httpx.Response(304 if matched else 200, headers={"ETag": '"ours"'})

        transport = httpx.MockTransport(answer)
        fetch(entries("http://a.example/"), transport=transport)
        conditional = FetchConfig(headers=(("If-None-Match", '"theirs"'),))
        fetch(entries("http://a.example/"), conditional, transport=transport)
        latest = Result.objects.latest("id")
        assert (latest.status, latest.representation) == ("not_modified", None)

    def test_reads_a_long_list_only_so_far_ahead_and_fetches_each_once(self):
        total, ahead, listener = 30_000, [0], Listener()

        def source() -> Iterator[Entry]:
            for number in range(total):
                ahead[0] = max(ahead[0], number - listener.progress.accepted)
                yield from entries(f"http://h{number % 50}.example/{number}")

        config = FetchConfig(concurrency=200)
        assert fetch(source(), config, listener=listener, transport=httpx.MockTransport(fine)) == RunState.COMPLETED
        assert Result.objects.values("target").distinct().count() == Result.objects.count() == total
        assert ahead[0] <= 2 * CAPACITY + 1
        assert listener.progress.meter.peak <= 200


class TestCancellation:
    def test_saves_what_was_fetched_and_leaves_the_run_interrupted(self, threaded_origin):
        fast = [threaded_origin.url(f"/ok/{number}") for number in range(10)]
        slow = [threaded_origin.url(f"/hang/{number}", 1) for number in range(5)]

        # Taken from the engine, and not yet saved: a batch is saved after a quarter of a second.
        fetch_until(
            lambda listener: listener.progress.accepted == 15 and listener.progress.meter.held == 5,
            entries(*fast, *slow),
        )

        assert set(Result.objects.values_list("target__url", flat=True)) == set(fast)
        assert Run.objects.get().state == RunState.INTERRUPTED
        assert_nothing_is_held()

    def test_loses_no_batch_that_waits_for_the_database(self):
        release, batches = threading.Event(), []

        def recorded(ids: list[int]) -> None:
            batches.append(len(ids))
            release.wait(20)  # the database is slow

        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=bytes(BATCH_BYTES // 8))  # eight make a batch

        async def main() -> None:
            source = entries(*(f"http://h{number % 9}.example/{number}" for number in range(100)))
            listener = Listener(recorded=recorded)
            task = asyncio.ensure_future(
                fetch_list(source, CONFIG, listener=listener, transport=httpx.MockTransport(answer))
            )
            await until(lambda: bool(batches), 10)
            await asyncio.sleep(0.5)  # the next batch is full and waits by now
            task.cancel()
            await asyncio.sleep(0.05)
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert batches[0] == 8
        assert Result.objects.count() >= 16
        assert Run.objects.get().state == RunState.INTERRUPTED

    @pytest.mark.parametrize("turns", range(0, 40, 4))
    def test_at_any_moment_of_the_start_leaves_nothing_behind(self, turns):
        async def main() -> None:
            task = asyncio.ensure_future(
                fetch_list(entries("http://a.example/"), CONFIG, transport=httpx.MockTransport(fine))
            )
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
        assert not Run.objects.filter(state__in=[RunState.PENDING, RunState.RUNNING]).exists()
        assert_nothing_is_held()


class TestErrors:
    def test_of_the_source_come_once_what_was_accepted_is_fetched(self, threaded_origin):
        def source() -> Iterator[Entry]:
            yield from entries(*(threaded_origin.url(f"/ok/{number}") for number in range(5)))
            raise SourceError("urls.txt: reading stopped after line 5")

        with pytest.raises(SourceError, match="after line 5"):
            fetch(source())
        assert Result.objects.count() == 5
        assert Run.objects.get().state == RunState.INTERRUPTED
        assert_nothing_is_held()

    def test_of_the_database_come_out(self):
        def recorded(ids: list[int]) -> None:
            raise DatabaseError("disk full")

        with pytest.raises(DatabaseError, match="disk full"):
            fetch(
                entries("http://a.example/"),
                listener=Listener(recorded=recorded),
                transport=httpx.MockTransport(fine),
            )
        assert_nothing_is_held()

    def test_of_the_database_come_out_while_the_run_goes_on(self):
        def recorded(ids: list[int]) -> None:
            raise DatabaseError("disk full")

        stop = threading.Event()

        def source() -> Iterator[Entry]:
            for number in range(10_000):
                yield from entries(f"http://a.example/{number}")
                if stop.wait(0.02):
                    return

        try:
            with pytest.raises(DatabaseError):
                fetch(source(), listener=Listener(recorded=recorded), transport=httpx.MockTransport(fine))
        finally:
            stop.set()
        assert Result.objects.count() < 1000

    def test_of_the_configuration_come_before_anything_is_saved(self, monkeypatch):
        monkeypatch.delenv("TRAWL_TEST_TOKEN", raising=False)
        with pytest.raises(ConfigError, match="TRAWL_TEST_TOKEN"):
            fetch([], FetchConfig(headers=(("Authorization", EnvReference("TRAWL_TEST_TOKEN")),)))
        assert not Run.objects.exists()


class TestAPausedHost:
    """Its targets never fill the look-ahead, which is 40 here, so that the others go on."""

    CONFIG = FetchConfig(concurrency=4, look_ahead=10)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host.startswith("busy"):
            return httpx.Response(429, headers={"Retry-After": "200"})
        return fine(request)

    def test_holds_up_no_other_host_of_the_list(self):
        busy = entries(*(f"http://busy.example/{number}" for number in range(500)))
        free = entries(*(f"http://{name}.example/{number}" for name in ("one", "two") for number in range(50)))
        fetch_until(
            lambda listener: listener.progress.done == 100,
            busy + free,
            self.CONFIG,
            transport=httpx.MockTransport(self.answer),
        )
        assert not Result.objects.filter(target__host="busy.example:80").exists()
        assert Result.objects.count() == 100

    def test_holds_up_no_host_that_is_planned_later(self):
        asked = threading.Event()

        def answer(request: httpx.Request) -> httpx.Response:
            asked.set()
            return self.answer(request)

        def source() -> Iterator[Entry]:
            yield from entries(*(f"http://busy.example/{number}" for number in range(500)))
            asked.wait(10)
            yield from entries(*(f"http://one.example/{number}" for number in range(50)))

        fetch_until(
            lambda listener: listener.progress.done == 50,
            source(),
            self.CONFIG,
            transport=httpx.MockTransport(answer),
        )
        assert Result.objects.count() == 50


class TestSecrets:
    def test_are_nowhere_in_the_database(self, threaded_origin, monkeypatch):
        from django.db import connection

        monkeypatch.setenv("TRAWL_TEST_TOKEN", "s3cret-of-the-environment")
        config = FetchConfig(
            allowed_networks=LOOPBACK,
            headers=(
                ("Authorization", "Bearer s3cret-literal"),
                ("Cookie", EnvReference("TRAWL_TEST_TOKEN")),
                ("X-A", "shown"),
            ),
        )
        sealed = []

        def recorded(ids: list[int]) -> None:
            sealed.append(bytes(Run.objects.get().secrets or b""))

        urls = [threaded_origin.url("/ok/1"), threaded_origin.url("/missing/1"), threaded_origin.url("/reset/1")]
        fetch(entries(*urls), config, listener=Listener(recorded=recorded))

        assert threaded_origin.log[0].header("Authorization") == "Bearer s3cret-literal"
        assert threaded_origin.log[0].header("Cookie") == "s3cret-of-the-environment"
        assert sealed[0]
        assert b"s3cret" not in sealed[0]
        assert Run.objects.get().secrets is None
        with connection.cursor() as cursor:
            for model in (Run, Result, Lane, Shard):
                cursor.execute(f"SELECT * FROM {model._meta.db_table}")
                stored = repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in cursor])
                assert "s3cret" not in stored
                assert ("shown" in stored) == (model is Run)
