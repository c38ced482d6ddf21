"""Fixtures for every test: the scripted origin, and servers that are not ours."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import hypothesis
import pytest
from django.test import TransactionTestCase

from fetcher.demo.origin import Origin, ThreadedOrigin
from tests.support.emptying import empty_database
from tests.support.granian import PackageMissing, running_httpbin, running_project
from tests.support.nginx import Nginx, NginxMissing, running_nginx
from tests.support.processes import unavailable

# A busy machine must not fail what is right: no deadline for an example, and no opinion on how inputs are drawn.
hypothesis.settings.register_profile(
    "trawl",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)
hypothesis.settings.load_profile("trawl")

TransactionTestCase._fixture_teardown = empty_database  # type: ignore[method-assign]

# They start processes, again and again. Begun first, they do not keep one core waiting for another at the end.
_SLOW = (
    "tests/test_examples.py",
    "tests/test_main_job.py",
    "tests/crash/test_poison.py",
    "tests/fetcher/api/test_streaming.py",
    "tests/fetcher/management/test_fetch_urls.py",
    "tests/fetcher/management/test_pauses.py",
    "tests/fetcher/management/test_streams.py",
    "tests/fetcher/management/commands/test_serve.py",
)
_DATABASE_FIXTURES = {"db", "transactional_db", "django_db_setup"}


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: they inherit that it is ignored, as under nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the database, which must pass on each kind of it, and what is slow, which is begun first."""
    for item in items:
        if item.nodeid.startswith(_SLOW):
            item.add_marker("slow")
        if item.get_closest_marker("django_db") or _DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Keep what was collected out of the collector's sight: some tests collect, and ten thousand items take 0.1 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """A scripted origin of the test's own."""
    async with Origin() as running:
        yield running


@pytest.fixture
def threaded_origin() -> Iterator[Origin]:
    """The same in a thread of its own, for tests and programs that have no loop; it listens on three ports."""
    with ThreadedOrigin(listeners=3) as running:
        yield running


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A real web server on a hundred loopback addresses."""
    try:
        with running_nginx(tmp_path_factory.mktemp("nginx")) as running:
            yield running
    except NginxMissing as exc:
        unavailable(str(exc))


@pytest.fixture(scope="session")
def httpbin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real httpbin."""
    try:
        with running_httpbin(tmp_path_factory.mktemp("httpbin")) as url:
            yield url
    except PackageMissing as exc:
        unavailable(str(exc))


@pytest.fixture
def serve_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """A function that serves this project in a process until the test ends, and returns the base URL.

    Takes the database's URL, ``interface`` (``asgi`` or ``wsgi``) and ``environment``.
    """
    with ExitStack() as stack:

        def serve(database_url: str, **options: Any) -> str:
            directory = tmp_path_factory.mktemp("project")
            return stack.enter_context(running_project(directory, database_url, **options))

        yield serve
