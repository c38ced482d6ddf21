"""Each stack fetches a small list as it is asked to, in a process of its own."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.origins import secure_origin
from tests.benchmarks.peers.databases import FILE, Databases
from tests.benchmarks.peers.rounds import finished
from tests.benchmarks.stacks.__main__ import STACKS, UNAVAILABLE
from tests.benchmarks.stacks.measuring import Job, Report
from tests.support.nginx import Nginx, NginxMissing
from tests.support.processes import unavailable

COUNT = 12
SAVING = {
    "saved": (FILE, "fetcher_result"),
    "planned-saved": (FILE, "fetcher_result"),
    "aiohttp-saved": ("raw.sqlite3", "result"),
    "scrapy-saved": ("raw.sqlite3", "result"),
}
FETCHING = sorted(set(STACKS) - set(SAVING))

Run = Callable[..., Report]


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Iterator[tuple[Nginx, Path]]:
    """Plain and with TLS, and the authority to trust."""
    try:
        with secure_origin(2, tmp_path_factory.mktemp("origin")) as running:
            yield running
    except NginxMissing as exc:
        unavailable(str(exc))


@pytest.fixture
def run(tmp_path) -> Run:
    """Have a stack fetch a list; skips where it cannot be had."""

    def run(name: str, urls: list[str], trusted: Path | None = None) -> Report:
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        Job(str(tmp_path / "urls.txt"), 4, str(tmp_path), trusted and str(trusted)).write(tmp_path / "job.json")
        done = finished([sys.executable, "-m", "tests.benchmarks.stacks", name, str(tmp_path / "job.json")])
        if done.returncode == UNAVAILABLE:
            pytest.skip(done.stdout.strip())
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout, type=Report)

    return run


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    with Databases(tmp_path_factory.mktemp("databases"), "", 0) as made:
        yield made


def own_urls(nginx: Nginx) -> list[str]:
    return [nginx.url(f"/own/{number:02}", number % 2) for number in range(COUNT)]


def own_size(nginx: Nginx) -> int:
    import httpx

    return COUNT * len(httpx.get(nginx.url("/own/00"), trust_env=False).content)


@pytest.mark.parametrize("name", FETCHING)
def test_a_stack_fetches_every_url_and_reads_its_body(origin, run, name):
    nginx, _ = origin
    report = run(name, own_urls(nginx))

    assert (report.answers, report.size) == (COUNT, -1 if name == "curl" else own_size(nginx))


@pytest.mark.parametrize("name", FETCHING)
def test_a_stack_fetches_over_tls_with_the_authority_that_it_is_given(origin, run, name):
    nginx, trusted = origin

    assert run(name, own_urls(nginx.secure), trusted).answers == COUNT


@pytest.mark.parametrize("name", SAVING)
def test_a_stack_saves_what_it_fetches(origin, databases, run, tmp_path, name):
    nginx, _ = origin
    databases.new_sqlite(tmp_path)
    report = run(name, own_urls(nginx))
    file, table = SAVING[name]
    with closing(sqlite3.connect(tmp_path / file)) as connection:
        saved = connection.execute(f"SELECT count(*), sum(bytes) FROM {table}").fetchone()

    assert (report.answers, report.size) == (COUNT, own_size(nginx))
    assert saved == (COUNT, own_size(nginx))


def test_figures_are_those_of_the_fetching(origin, run):
    nginx, _ = origin
    report = run("engine", [nginx.url("/delay")])

    assert report.seconds >= 0.1
    assert report.cpu > 0
    assert 0 < report.idle <= report.peak
