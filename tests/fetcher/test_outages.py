"""A run whose database or disk is away for a while, full, or read-only. Errors and disks are real."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from fetcher import writer
from fetcher.cli.execution import follow
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.listener import Listener
from fetcher.models import Lane, Result, Run, Target
from fetcher.service import fetch_list, resume_run
from fetcher.sources import Entry, Input, Inputs
from tests.support.commands import database_url
from tests.support.outages import locked, ride_through, sqlite_held
from tests.support.postgres_cluster import ClusterMissing, running_cluster
from tests.support.processes import unavailable
from tests.support.small_disk import CannotMount, fill, small_disk
from tests.support.stored import entries

CONFIG = FetchConfig(allowed_networks=(AllowedNetwork.parse("127.0.0.1/32"),))

_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)

pytestmark = pytest.mark.django_db(transaction=True)


class Fetched:
    """One run, as the command makes it: its error or None, and its messages."""

    def __init__(self, given: Iterable[Entry], config: FetchConfig = CONFIG) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.error: str | None = None
        try:
            follow(
                lambda listener, control: fetch_list(given, config, listener=listener, control=control),
                stdout=OutputWrapper(out),
                stderr=OutputWrapper(err),
                progress_style="none",
            )
        except CommandError as exc:
            self.error = str(exc)
        self.messages = err.getvalue().splitlines()

    def said(self, text: str) -> bool:
        """Whether this is the error, with the run's number before it and how to go on after it."""
        run = Run.objects.get().pk
        begins = f"run {run}: {text}. Go on with: "
        return bool(self.error and self.error.startswith(begins) and self.error.endswith(f"fetch_urls --resume {run}"))


@pytest.fixture
def options(monkeypatch) -> Iterator[Callable[..., None]]:
    """A function that changes the options of the connections that are opened from now on."""

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setitem(connection.settings_dict["OPTIONS"], name, value)

    yield change
    connection.close()  # it may have them


def saved() -> int:
    """Count results from a thread that keeps no connection: sources are read in one of their own."""
    try:
        return Result.objects.count()
    finally:
        connection.close()


def on(vendor: str) -> None:
    if connection.vendor != vendor:
        pytest.skip(f"needs {vendor}")


def slow(origin, number: int = 60, ms: int = 20) -> list[str]:
    return [origin.url(f"/slow/{place}?ms={ms}", place % 3) for place in range(number)]


def during(urls: list[str], away: Callable[[], AbstractContextManager[None]], seconds: float) -> Iterator[Entry]:
    """Yield half of the list, keep the database away for a while, and yield the rest."""
    yield from entries(*urls[: len(urls) // 2])
    while not saved():
        time.sleep(0.01)
    with away():
        yield from entries(*urls[len(urls) // 2 :], source="second half")
        time.sleep(seconds)


def assert_each_has_one_result(urls: Iterable[str]) -> None:
    assert sorted(Result.objects.values_list("target__url", flat=True)) == sorted(urls)
    run = Run.objects.get()
    assert (run.state, run.shards.filter(done_at=None).count()) == ("completed", 0)
    assert sum(Lane.objects.values_list("planned", flat=True)) == len(list(urls))


def assert_resuming_completes(urls: Iterable[str]) -> None:
    assert asyncio.run(resume_run(Run.objects.get().pk)) == "completed"
    assert_each_has_one_result(urls)


class TestASqliteFileThatIsLocked:
    def test_is_waited_for_beyond_the_busy_timeout(self, threaded_origin, options):
        on("sqlite")
        options(timeout=0.1)
        urls = slow(threaded_origin)
        fetched = Fetched(during(urls, lambda: sqlite_held(connection.settings_dict["NAME"]), 1))
        assert fetched.error is None
        assert "database is locked; trying again for up to 5 min" in fetched.messages[0]
        assert "can be used again" in fetched.messages[-1]
        assert_each_has_one_result(urls)

    def test_for_too_long_ends_the_run_in_one_line(self, threaded_origin, options, settings):
        on("sqlite")
        options(timeout=0.1)
        settings.FETCHER_DATABASE_PATIENCE = 0.5
        urls = slow(threaded_origin)
        with sqlite_held_from_the_first_result() as held:
            fetched = Fetched(held(urls))
        assert fetched.said("the database cannot be used: database is locked")
        assert len(fetched.messages) == 1  # that waiting began

    def test_at_the_start_is_an_error_at_once(self, options):
        on("sqlite")
        options(timeout=0.1)
        with sqlite_held(connection.settings_dict["NAME"]):
            fetched = Fetched(entries("http://a.example/"))
        assert (fetched.error, fetched.messages) == ("the database cannot be used: database is locked", [])


class sqlite_held_from_the_first_result:  # noqa: N801  (used like a function)
    """Gives a source that locks the file once there is a result; the lock goes when the block is left."""

    def __enter__(self) -> Callable[[list[str]], Iterator[Entry]]:
        self._lock = sqlite_held(connection.settings_dict["NAME"])
        return self._source

    def __exit__(self, *exc_info: object) -> None:
        self._lock.__exit__(*exc_info)

    def _source(self, urls: list[str]) -> Iterator[Entry]:
        yield from entries(*urls[:30])
        while not saved():
            time.sleep(0.01)
        self._lock.__enter__()
        yield from entries(*urls[30:], source="second half")


class TestAPostgresServer:
    def test_that_cuts_connections_again_and_again_costs_nothing(self, threaded_origin):
        on("postgresql")
        url, begun, over, cut = database_url(), threading.Event(), threading.Event(), []

        def cut_connections() -> None:
            with psycopg.connect(url, autocommit=True) as own:
                begun.wait(30)
                while not over.wait(0.25):
                    if own.execute("SELECT count(*) > 350 FROM fetcher_result").fetchone()[0]:
                        return
                    cut.extend(own.execute(_CUT).fetchall())

        def source(urls: list[str]) -> Iterator[Entry]:
            for start in range(0, len(urls), 40):  # planning and recording go on side by side
                yield from entries(*urls[start : start + 40], source=f"part {start}")
                time.sleep(0.1)
                if not begun.is_set() and saved():
                    begun.set()

        urls = slow(threaded_origin, 400, ms=100)
        cutter = threading.Thread(target=cut_connections)
        cutter.start()
        try:
            fetched = Fetched(source(urls))
        finally:
            begun.set()
            over.set()
            cutter.join()
            connection.close()
        assert fetched.error is None
        assert len(cut) > 2
        assert_each_has_one_result(urls)

    @pytest.mark.services
    def test_that_is_restarted_is_waited_for(self):
        on("sqlite")  # once is enough: it has a server of its own
        try:
            with running_cluster() as cluster:
                ridden = ride_through(cluster.url, cluster.away, 0.5)
                with psycopg.connect(cluster.url) as own:
                    count = "SELECT count(*), count(DISTINCT target_id) FROM fetcher_result"
                    assert own.execute(count).fetchone() == (len(ridden.urls),) * 2
                    assert own.execute("SELECT state FROM fetcher_run").fetchall() == [("completed",)]
        except ClusterMissing as exc:
            unavailable(str(exc))
        assert ridden.code == 0
        assert "the database cannot be used" in ridden.errors
        assert "the database can be used again" in ridden.errors
        assert "Traceback" not in ridden.errors


class TestAFullDisk:
    def test_of_the_database_ends_the_run_in_one_line(self, threaded_origin, options):
        on("sqlite")
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")  # pages that other tests left free would be room
            cursor.execute("PRAGMA page_count")
            pages = cursor.fetchone()[0]
        command = connection.settings_dict["OPTIONS"]["init_command"]
        options(init_command=f"{command} PRAGMA max_page_count = {pages + 5};")
        urls = [threaded_origin.url(f"/ok/{place}") for place in range(300)]
        fetched = Fetched(Inputs([Input.arguments(urls)]))
        folder = Path(connection.settings_dict["NAME"]).parent
        assert fetched.said(f"the disk of {folder} is full: database or disk is full; make room there")
        assert Run.objects.get().state == "interrupted"
        options(init_command=command)
        assert_resuming_completes(urls)

    @pytest.fixture
    def disk(self, tmp_path, settings):
        """Eight mebibytes for the bodies."""
        try:
            with small_disk(tmp_path / "media", 8) as folder:
                settings.MEDIA_ROOT = folder
                settings.FETCHER_BODY_FILE_THRESHOLD = 10
                settings.FETCHER_DISK_RESERVE = 2**20
                yield folder
        except CannotMount as exc:
            pytest.skip(str(exc))

    def test_of_the_bodies_ends_the_run_in_one_line(self, threaded_origin, disk, settings):
        settings.FETCHER_DISK_RESERVE = 0
        fill(disk, leave=2 * 4096)
        urls = [threaded_origin.url(f"/bytes/{1000 + place}") for place in range(30)]
        fetched = Fetched(Inputs([Input.arguments(urls)]))
        assert fetched.said(f"the disk of {disk} is full: [Errno 28] No space left on device; make room there")
        assert Run.objects.get().state == "interrupted"
        (disk / "filler").unlink()
        assert_resuming_completes(urls)

    def test_that_is_nearly_so_is_an_error_before_the_start(self, disk):
        fill(disk, leave=2**19)
        fetched = Fetched(entries("http://a.example/"))
        assert fetched.error
        assert fetched.error.startswith(f"the disk of {disk} is nearly full: 0 MiB are left")
        assert not Run.objects.exists()

    def test_that_becomes_nearly_so_stops_the_run_with_what_it_has(self, threaded_origin, disk):
        urls = [threaded_origin.url(f"/ok/{place}", place % 3) for place in range(100)]

        def source() -> Iterator[Entry]:
            yield from entries(*urls[:50])
            while saved() < 50:
                time.sleep(0.01)
            fill(disk, leave=2**19)
            time.sleep(1)  # it is looked at once a second
            yield from entries(*urls[50:], source="second half")

        fetched = Fetched(source())
        run = Run.objects.get()
        assert fetched.said(
            f"the disk of {disk} is nearly full: 0 MiB are left, and 1 MiB are kept in reserve (FETCHER_DISK_RESERVE); "
            "make room there"
        )
        assert run.state == "interrupted"
        assert 50 <= Result.objects.count() < 100


class TestAReadOnlyDatabase:
    def test_is_one_line_at_the_start(self, options):
        if connection.vendor == "sqlite":
            command = connection.settings_dict["OPTIONS"]["init_command"]
            options(init_command=f"{command} PRAGMA query_only = 1;")
        else:
            options(options="-c default_transaction_read_only=on")
        fetched = Fetched(entries("http://a.example/"))
        assert fetched.error
        assert fetched.error.startswith("the database is read-only: ")
        assert fetched.messages == []
        assert not Run.objects.exists()
        assert not Target.objects.exists()


class TestADatabaseThatFailsAgainAndAgain:
    """At any statement, and at commits that took place although their answer was lost."""

    @pytest.fixture
    def failing(self, monkeypatch) -> Iterator[list[str]]:
        """Have the writer's connections fail, each time at another place; gives what failed so far."""
        monkeypatch.setattr(writer, "FIRST_PAUSE", 0.001)
        chance, failed, commits = random.Random(4), [], itertools.count(1)

        def fail(what: str) -> None:
            count = failed.count("COMMIT")
            if what == "COMMIT":
                due = count < 15 and next(commits) % 3 == 0
            else:
                due = len(failed) - count < 15 and chance.random() < 0.05
            if due:
                failed.append(what)
                raise locked()

        def execute(call: Callable[..., object], sql: str, *arguments: object) -> object:
            fail(sql[:20])
            return call(sql, *arguments)

        def prepare(connection: BaseDatabaseWrapper, **options: object) -> None:
            if threading.current_thread().name.startswith("trawl-writer"):
                commit = functools.partial(type(connection).commit, connection)

                def lost() -> None:
                    commit()
                    fail("COMMIT")

                connection.commit = lost  # type: ignore[method-assign]
                connection.execute_wrappers[:] = [execute]

        connection_created.connect(prepare)
        yield failed
        connection_created.disconnect(prepare)

    def test_gets_and_tells_each_result_once(self, threaded_origin, failing):
        urls, recorded, listener = slow(threaded_origin, 300, ms=5), [], Listener()
        listener.recorded = recorded.extend

        def source() -> Iterator[Entry]:
            for start in range(0, len(urls), 30):
                yield from entries(*urls[start : start + 30], source=f"part {start}")
                time.sleep(0.1)

        for _ in range(50):  # the beginning of a run is not repeated
            try:
                state = asyncio.run(fetch_list(source(), CONFIG, listener=listener))
                break
            except DatabaseError:
                assert not Result.objects.exists()
                Run.objects.all().delete()
        assert state == "completed"
        assert_each_has_one_result(urls)
        assert sorted(recorded) == sorted(Result.objects.values_list("id", flat=True))
        assert listener.progress.done == len(urls)
        assert "COMMIT" in failing
        assert len(failing) > 2
