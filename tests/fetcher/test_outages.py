"""A run whose database or disk is away for a while, full, or read-only. Errors and disks are real."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from django.core.management.base import CommandError, OutputWrapper
from django.db import connection

from fetcher.cli.execution import run_list
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.models import Lane, Result, Run, Target
from fetcher.sources import Entry
from tests.support.commands import database_url
from tests.support.outages import ride_through, sqlite_held
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
            run_list(given, config, stdout=OutputWrapper(out), stderr=OutputWrapper(err), progress_style="none")
        except CommandError as exc:
            self.error = str(exc)
        self.messages = err.getvalue().splitlines()


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
        assert fetched.error == f"run {Run.objects.get().pk}: the database cannot be used: database is locked"
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
            cursor.execute("PRAGMA page_count")
            pages = cursor.fetchone()[0]
        command = connection.settings_dict["OPTIONS"]["init_command"]
        options(init_command=f"{command} PRAGMA max_page_count = {pages + 5};")
        fetched = Fetched(entries(*(threaded_origin.url(f"/ok/{place}") for place in range(300))))
        assert fetched.error
        assert fetched.error.startswith(f"run {Run.objects.get().pk}: the disk of ")
        assert fetched.error.endswith("is full: database or disk is full; make room there")
        assert Run.objects.get().state == "interrupted"

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
        fetched = Fetched(entries(*(threaded_origin.url(f"/bytes/{1000 + place}") for place in range(30))))
        full = f"the disk of {disk} is full: [Errno 28] No space left on device; make room there"
        assert fetched.error == f"run {Run.objects.get().pk}: {full}"
        assert Run.objects.get().state == "interrupted"

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
        assert fetched.error
        assert fetched.error.startswith(f"run {run.pk}: the disk of {disk} is nearly full: 0 MiB are left")
        assert run.state == "interrupted"
        assert Result.objects.count() == 50


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
