"""The limit of open files is raised, kept to, named when it is reached, and charged to no target."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import subprocess
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from fetcher.demo.origin import Origin
from fetcher.engine import attempts
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.descriptors import RESERVED, affordable, exhausted, lowered_concurrency, open_files_limit
from fetcher.engine.errors import ErrorKind
from fetcher.engine.runner import fetch_all
from fetcher.engine.transport import ConnectionOptions, open_transport
from fetcher.engine.types import Outcome, Status, Target
from fetcher.engine.urls import parse_url
from tests.support.descriptors import no_descriptors_left, soft_limit
from tests.support.waiting import until

LOOPBACK = (AllowedNetwork.parse("127.0.0.0/8"),)
BOUND = 20
"""Seconds after which a test that hangs has failed."""

_RAISING = """
import resource
from fetcher.engine.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


class TestLimit:
    def test_raise_limit_goes_up_to_the_hard_limit(self) -> None:
        code = _RAISING.format(soft=64, hard=512)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["512", "512", "512"]

    def test_raise_limit_lowers_no_limit(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        code = _RAISING.format(soft=hard, hard=hard)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split()[1:] == [str(hard), str(hard)]

    @pytest.mark.parametrize("limit", [96, 256, 1024, 4096])
    def test_affordable_leaves_room_for_the_database_under_any_limit(self, limit: int) -> None:
        with soft_limit(limit):
            requests, kept = affordable(300)
        assert 1 <= requests <= 300
        assert requests <= kept <= 4 * 300
        assert requests == 1 or kept + 2 * requests + RESERVED <= limit

    def test_affordable_keeps_four_connections_for_each_request_when_there_is_room(self) -> None:
        with soft_limit(4096):
            assert affordable(100) == (100, 400)

    def test_lowered_concurrency_names_limit_option_and_remedy(self) -> None:
        with soft_limit(256):
            lowered, remark = lowered_concurrency(300)
            assert open_files_limit() == 256
        assert lowered < 100
        assert remark == (
            f"the limit of open files is 256, --concurrency is lowered from 300 to {lowered}; "
            "raise the limit with ulimit -n"
        )

    def test_lowered_concurrency_says_nothing_when_the_limit_allows_it(self) -> None:
        with soft_limit(4096):
            assert lowered_concurrency(300) == (300, "")

    def test_exhausted_tells_whether_anything_can_be_opened(self) -> None:
        assert exhausted() is None
        with no_descriptors_left():
            fault = exhausted()
        assert "ulimit -n" in str(fault)


@contextlib.asynccontextmanager
async def fetching(
    kind: str, origin: Origin, count: int, **options: float
) -> AsyncIterator[asyncio.Task[list[Outcome]]]:
    """Fetch so many URLs through a transport that was opened while there were descriptors."""
    urls = [parse_url(origin.url(f"/ok/{number}")) for number in range(count)]
    config = FetchConfig(host_failures=1, allowed_networks=LOOPBACK, **options)  # type: ignore[arg-type]
    transport = open_transport(config, ConnectionOptions(transport=kind))  # type: ignore[arg-type]

    async def fetch(through: httpx.AsyncBaseTransport) -> list[Outcome]:
        targets = [Target(url.href, url.host) for url in urls]
        return [outcome async for outcome in fetch_all(targets, config, transport=through)]

    try:
        async with asyncio.timeout(BOUND):
            other = open_transport(config, ConnectionOptions(transport=kind))  # type: ignore[arg-type]
            await fetch(other)  # modules that are imported late are files as well
            await other.aclose()
            with no_descriptors_left():
                task = asyncio.create_task(fetch(transport))
                yield task
            await task
    finally:
        await transport.aclose()


@pytest.mark.parametrize("kind", ["libcurl", "httpx"])
class TestReached:
    async def test_targets_wait_and_are_sent_again_when_no_descriptor_is_left(
        self, kind: str, origin: Origin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(attempts, "FAULT_WAIT_SECONDS", 0.02)
        caplog.set_level(logging.WARNING)
        async with fetching(kind, origin, 30) as task:
            await until(lambda: bool(caplog.records), 10)
            await asyncio.sleep(0.1)
        outcomes = await task

        assert {outcome.status for outcome in outcomes} == {Status.SUCCEEDED}
        assert {len(outcome.attempts) for outcome in outcomes} == {1}
        assert len(caplog.records) == 1
        assert "ulimit -n" in caplog.records[0].getMessage()
        assert "--concurrency" in caplog.records[0].getMessage()

    async def test_target_fails_as_internal_when_no_descriptor_is_left_until_its_total_deadline(
        self, kind: str, origin: Origin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "FAULT_WAIT_SECONDS", 0.02)
        async with fetching(kind, origin, 3, total_deadline=0.2) as task:
            outcomes = await task

        assert {(outcome.status, outcome.error_kind) for outcome in outcomes} == {(Status.FAILED, ErrorKind.INTERNAL)}
        assert all("ulimit -n" in outcome.error_detail for outcome in outcomes)
