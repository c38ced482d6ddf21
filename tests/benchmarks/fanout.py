"""(a) 60 URLs that each take 100 ms over 10 hosts: one after the other against fanned out; and ``fanout/`` of 20."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import httpx

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.runner import fetch_all
from fetcher.engine.types import Status, Target
from fetcher.engine.urls import parse_url
from tests.benchmarks.figures import ROUNDS, Figure, seconds
from tests.benchmarks.origins import DELAYED, benchmark_origin
from tests.benchmarks.project import environment, migrate
from tests.support.granian import running_project

LOOPBACK = (AllowedNetwork.parse("127.0.0.0/8"),)
URLS = 60
ASKED = 20


def targets(urls: Sequence[str]) -> list[Target]:
    """Return plain GET targets."""
    return [Target(url.href, url.host) for url in map(parse_url, urls)]


def fetch(urls: Sequence[str], config: FetchConfig) -> None:
    """Fetch with the engine alone, saving nothing; fails where any URL fails."""

    async def run() -> None:
        async for outcome in fetch_all(targets(urls), config):
            assert outcome.status is Status.SUCCEEDED, outcome

    asyncio.run(run())


def one_after_the_other(urls: Sequence[str]) -> None:
    """Fetch as a sync view would: a kept-alive client, one URL at a time."""
    with httpx.Client(trust_env=False) as client:
        for url in urls:
            client.get(url).raise_for_status()


def measure() -> list[Figure]:
    """Return the two ratios of part (a)."""
    config = FetchConfig(allowed_networks=LOOPBACK)
    with benchmark_origin() as nginx:
        urls = nginx.urls(DELAYED, URLS)
        fetch(urls, config)  # a first run imports and warms up
        slow, fast = [], []
        for _ in range(ROUNDS):
            slow.append(seconds(lambda: one_after_the_other(urls)))
            fast.append(seconds(lambda: fetch(urls, config)))
        gain = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
        return [
            Figure(f"{URLS} URLs of 100 ms: one after the other / fanned out", gain, "x", 25),
            _view(nginx.urls(DELAYED, ASKED)),
        ]


def _view(urls: Sequence[str]) -> Figure:
    with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        directory = Path(name)
        migrate(directory)
        with (
            running_project(directory, f"sqlite:///{directory}/db.sqlite3", environment=environment()) as base,
            httpx.Client(trust_env=False, timeout=30) as client,
        ):

            def ask() -> None:
                answer = client.get(f"{base}/api/v1/fanout/?{urlencode([('url', url) for url in urls])}")
                assert all(item["status"] == "succeeded" for item in json.loads(answer.text)["items"]), answer.text

            def ask_one() -> None:
                client.get(urls[0]).raise_for_status()

            ask()
            ask_one()
            ratio = statistics.median([seconds(ask) / seconds(ask_one) for _ in range(ROUNDS * 3)])
    return Figure(f"fanout/ of {ASKED} such URLs, saved / one URL fetched directly", ratio, "x", 2.5, "at most")
