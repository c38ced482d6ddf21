"""A few URLs fetched now, side by side, while somebody waits for the answer.

This is where Trawl began: one after the other they take as long as all of them together, fanned out as long as the
slowest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from asgiref.sync import sync_to_async
from django.db import connections

from fetcher.conf import Settings, fetch_config, fetcher_settings
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.errors import ErrorKind
from fetcher.engine.runner import fetch_all
from fetcher.engine.types import Outcome, Status, Target
from fetcher.engine.urls import Url
from fetcher.store.whole import save_whole_run


@dataclass(frozen=True, slots=True)
class FanOutReport:
    """The saved run's id, the milliseconds it took, and the outcomes in the order asked."""

    run: int
    elapsed_ms: float
    outcomes: Sequence[Outcome]


async def fan_out(
    urls: Sequence[Url],
    *,
    extract: Callable[[Outcome], Any] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> FanOutReport:
    """Fetch different URLs concurrently and save them as a run, all in one transaction, before returning.

    Takes ``FETCHER_FANOUT_DEADLINE`` seconds at most: what is not finished by then is failed as ``cancelled``. Requests
    are unconditional, since the caller wants the bodies. ``extract`` gives what is saved beside a body.

    Raises ConfigError where a default header needs an environment variable that is not set.
    """
    settings = fetcher_settings()
    config = _config(settings)
    check_environment(config.headers)
    epoch, began = time.time(), time.monotonic()
    targets = [Target(url.href, url.host, key=index) for index, url in enumerate(urls)]
    found: dict[int, Outcome] = {}
    outcomes = fetch_all(targets, config, transport=transport)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.fanout_deadline), contextlib.aclosing(outcomes):  # type: ignore[type-var]
            async for outcome in outcomes:
                assert isinstance(outcome.target.key, int)
                found[outcome.target.key] = outcome
    elapsed = time.monotonic() - began
    complete = [
        found.get(index) or _cut(target, epoch, elapsed, settings.fanout_deadline)
        for index, target in enumerate(targets)
    ]
    run = await sync_to_async(_save, thread_sensitive=False)(config, complete, settings, epoch, extract)
    return FanOutReport(run, (time.monotonic() - began) * 1000, complete)


def _config(settings: Settings) -> FetchConfig:
    defaults = fetch_config()
    return fetch_config(
        {
            "deadline": min(defaults.deadline, settings.fanout_deadline),
            "total_deadline": min(defaults.total_deadline, settings.fanout_deadline),
        }
    )


def _cut(target: Target, epoch: float, elapsed: float, deadline: float) -> Outcome:
    return Outcome(
        target=target,
        status=Status.FAILED,
        started_at=epoch,
        finished_at=epoch + elapsed,
        elapsed=elapsed,
        final_url=target.url,
        error_kind=ErrorKind.CANCELLED,
        error_detail=f"not finished within the {deadline:g} s that fanout/ may take (FETCHER_FANOUT_DEADLINE)",
    )


def _save(
    config: FetchConfig,
    outcomes: Sequence[Outcome],
    settings: Settings,
    epoch: float,
    extract: Callable[[Outcome], Any] | None,
) -> int:
    try:
        return save_whole_run(config, outcomes, settings, source="fanout", began=epoch, extract=extract)
    finally:
        connections.close_all()  # the thread is any of a pool's: its connection would never be looked after
