"""Fetch hostile replies and judge what that cost."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.runner import fetch_all
from fetcher.engine.transport.options import ConnectionOptions
from fetcher.engine.types import Outcome, Target
from fetcher.engine.urls import parse_url
from tests.hostile.measuring import Cost, measured_cost
from tests.hostile.reply import DEADLINE_SECONDS, READ_TIMEOUT_SECONDS, Reply

TRANSPORTS = ("libcurl", "httpx")
CONFIG = FetchConfig(
    allowed_networks=(AllowedNetwork.parse("127.0.0.0/8"),),
    connect_timeout=READ_TIMEOUT_SECONDS,
    read_timeout=READ_TIMEOUT_SECONDS,
    deadline=DEADLINE_SECONDS,
    total_deadline=2 * DEADLINE_SECONDS,
    max_attempts=1,
    per_host=50,
    host_failures=0,
    max_body=2 * 2**20,  # read within the deadline on a busy machine too
)
LATE_SECONDS = 0.5
STILL_SECONDS = 0.05
_TRIES = 3
"""On a busy machine a good figure may need another try; a verdict never does."""


async def fetch(reply: Reply, transport: str, urls: Sequence[str]) -> tuple[list[Outcome], Cost]:
    """Return the outcomes of these URLs, fetched at once, and what that cost."""
    parsed = [parse_url(url) for url in urls]
    targets = [Target(url.href, url.host, reply.method, body=reply.body) for url in parsed]
    options = ConnectionOptions(transport=transport)  # type: ignore[arg-type]
    gc.collect()
    with measured_cost() as cost:
        outcomes = [outcome async for outcome in fetch_all(targets, CONFIG, connections=options)]
    return outcomes, cost


async def check(reply: Reply, transport: str, urls: Sequence[str], *, verdicts: frozenset[str], memory: int) -> None:
    """Assert that each URL has one outcome with one of the verdicts, within the bounds; ``memory`` is in bytes."""
    reasons: list[str] = []
    for _ in range(_TRIES):
        outcomes, cost = await fetch(reply, transport, urls)
        for outcome in outcomes:
            assert str(outcome.error_kind or outcome.status) in verdicts, outcome.error_detail
        assert sorted(outcome.target.url for outcome in outcomes) == sorted(urls)
        reasons = broken(outcomes, cost, memory=memory)
        if not reasons:
            return
    assert not reasons


def broken(outcomes: Sequence[Outcome], cost: Cost, *, memory: int) -> list[str]:
    """Return which bounds were broken, in words."""
    found = []
    slowest = max(outcome.elapsed for outcome in outcomes)
    if slowest > DEADLINE_SECONDS + LATE_SECONDS:
        found.append(f"took {slowest:.2f} s with a deadline of {DEADLINE_SECONDS} s")
    for what, seconds in (("loop", cost.stillness.on_loop), ("interpreter", cost.stillness.in_process)):
        if seconds > STILL_SECONDS:
            found.append(f"held the {what} for {seconds * 1000:.0f} ms")
    if cost.memory is not None and cost.memory > memory:
        found.append(f"took {cost.memory / 2**20:.0f} MiB")
    return found
