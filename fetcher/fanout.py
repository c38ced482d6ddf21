"""A few URLs fetched now, side by side, while somebody waits for the answer.

This is where Trawl began: one after the other they take as long as all of them together, fanned out as long as the
slowest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import httpx
from asgiref.sync import sync_to_async
from django.db import connections

from fetcher.conf import Settings, connection_options, fetch_config, fetcher_settings
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.control import Control
from fetcher.engine.errors import ErrorKind
from fetcher.engine.runner import fetch_all
from fetcher.engine.types import Outcome, Status, Target
from fetcher.engine.urls import Url
from fetcher.store import pauses
from fetcher.store.whole import save_whole_run

P = ParamSpec("P")
R = TypeVar("R")


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

    Takes ``FETCHER_FANOUT_DEADLINE`` seconds at most: what is not finished by then is failed as ``cancelled``, and at
    once what could not be, since its host asked to be left alone for longer. Requests are unconditional, since the
    caller wants the bodies. ``extract`` gives what is saved beside a body.

    Raises ConfigError where a default header needs an environment variable that is not set.
    """
    settings = fetcher_settings()
    config = _config(settings)
    check_environment(config.headers)
    epoch, began = time.time(), time.monotonic()
    targets = [Target(url.href, url.host, key=index) for index, url in enumerate(urls)]
    closed = await _in_thread(_paused, {target.host for target in targets}, config)
    limit = settings.fanout_deadline
    too_long = {host: seconds for host, seconds in closed.items() if seconds >= limit}
    control, told = Control(), {}
    control.pause(closed)
    found: dict[int, Outcome] = {}
    outcomes = fetch_all(
        [target for target in targets if target.host not in too_long],
        config,
        transport=transport,
        connections=connection_options(),
        control=control,
        paused=lambda host, seconds: told.update({host: time.monotonic() + seconds}),
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit), contextlib.aclosing(outcomes):  # type: ignore[type-var]
            async for outcome in outcomes:
                assert isinstance(outcome.target.key, int)
                found[outcome.target.key] = outcome
    elapsed = time.monotonic() - began
    complete = [
        found.get(index) or _cut(target, epoch, elapsed, limit, too_long.get(target.host))
        for index, target in enumerate(targets)
    ]
    run = await _in_thread(_save, config, complete, settings, epoch, extract, told)
    return FanOutReport(run, (time.monotonic() - began) * 1000, complete)


def _config(settings: Settings) -> FetchConfig:
    defaults = fetch_config()
    return fetch_config(
        {
            "deadline": min(defaults.deadline, settings.fanout_deadline),
            "total_deadline": min(defaults.total_deadline, settings.fanout_deadline),
        }
    )


def _cut(target: Target, epoch: float, elapsed: float, deadline: float, paused: float | None) -> Outcome:
    reason = f"not finished within the {deadline:g} s that fanout/ may take (FETCHER_FANOUT_DEADLINE)"
    if paused is not None:
        reason = f"not requested: {target.host} asked to be left alone for {paused:.0f} s more (Retry-After)"
        elapsed = 0.0
    return Outcome(
        target=target,
        status=Status.FAILED,
        started_at=epoch,
        finished_at=epoch + elapsed,
        elapsed=elapsed,
        final_url=target.url,
        error_kind=ErrorKind.CANCELLED,
        error_detail=reason,
    )


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Use the database in a thread that is any of a pool's: its connection would never be looked after."""

    def call() -> R:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await sync_to_async(call, thread_sensitive=False)()


def _paused(hosts: Collection[str], config: FetchConfig) -> dict[str, float]:
    """Return the seconds that are left of the pauses of these hosts."""
    return {host: pause.seconds for host, pause in pauses.in_force(config.max_retry_after, list(hosts)).items()}


def _save(
    config: FetchConfig,
    outcomes: Sequence[Outcome],
    settings: Settings,
    epoch: float,
    extract: Callable[[Outcome], Any] | None,
    told: dict[str, float],
) -> int:
    pauses.save(told)
    return save_whole_run(config, outcomes, settings, source="fanout", began=epoch, extract=extract)
