"""A few URLs fetched now, side by side, while somebody waits for the answer.

This is where Trawl began: one after the other they take as long as all of them together, fanned out as long as the
slowest.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import httpx
import msgspec
from asgiref.sync import sync_to_async
from django.db import connections

from fetcher.conf import Settings, callers_config, connection_options, fetcher_settings
from fetcher.engine.bodies import SpilledBody, Spilling
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.control import Control
from fetcher.engine.errors import ErrorKind
from fetcher.engine.runner import fetch_all
from fetcher.engine.types import Outcome, Status, Target
from fetcher.engine.urls import Url
from fetcher.extraction import NOTHING, Extract, Found
from fetcher.store import pauses
from fetcher.store.whole import save_whole_run

P = ParamSpec("P")
R = TypeVar("R")

EXTRACTING_SECONDS = 2.0
"""For evaluating the expression, beyond the deadline of fetching, waiting for other calls' included."""
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="trawl-extract")
"""Few: each may have an evaluator process."""


@dataclass(frozen=True, slots=True)
class FanOutReport:
    """The saved run's id, the milliseconds it took, the outcomes in the order asked, and what was found in each."""

    run: int
    elapsed_ms: float
    outcomes: Sequence[Outcome]
    extracted: Sequence[Found]


@contextlib.asynccontextmanager
async def fan_out(
    urls: Sequence[Url],
    *,
    extract: Extract | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[FanOutReport]:
    """Fetch different URLs concurrently and save them as a run, all in one transaction, before it is entered.

    Takes ``FETCHER_FANOUT_DEADLINE`` seconds at most: what is not finished by then is failed as ``cancelled``, and at
    once what could not be, since its host asked to be left alone for longer. All bodies together have
    ``FETCHER_FANOUT_MAX_BYTES``: one that is too much is not kept, and failed as ``too_large``. Requests are
    unconditional, since the caller wants the bodies; those that are large are in files, to be read until it is left.

    Raises ConfigError where a default header needs an environment variable that is not set, SpillFailed.
    """
    settings = fetcher_settings()
    config = _config(settings)
    check_environment(config.headers)
    epoch, began = time.time(), time.monotonic()
    targets = [Target(url.href, url.host, key=index) for index, url in enumerate(urls)]
    # A part for each, so that all that are small enough for memory fit into it together.
    threshold = min(settings.spill_threshold, settings.fanout_max_bytes // max(1, len(targets)))
    async with Spilling(threshold, settings.spill_folder or None) as spilling:
        outcomes, told = await _fetch(targets, config, settings, spilling, transport, epoch)
        until = began + settings.fanout_deadline + EXTRACTING_SECONDS
        extracted = await _in_pool(_extracted, extract, outcomes, until) if extract else [NOTHING] * len(outcomes)
        run = await _in_thread(_save, config, outcomes, settings, epoch, extracted, told)
        yield FanOutReport(run, (time.monotonic() - began) * 1000, outcomes, extracted)


async def _fetch(
    targets: Sequence[Target],
    config: FetchConfig,
    settings: Settings,
    spilling: Spilling,
    transport: httpx.AsyncBaseTransport | None,
    epoch: float,
) -> tuple[list[Outcome], dict[str, float]]:
    """Return the outcome of each target, and until when hosts asked to be left alone."""
    began, limit = time.monotonic(), settings.fanout_deadline
    closed = await _in_thread(_paused, {target.host for target in targets}, config)
    too_long = {host: seconds for host, seconds in closed.items() if seconds >= limit}
    control, told = Control(), {}
    control.pause(closed)
    found: dict[int, Outcome] = {}
    room = _Room(settings.fanout_max_bytes, spilling)
    outcomes = fetch_all(
        [target for target in targets if target.host not in too_long],
        config,
        transport=transport,
        connections=connection_options(),
        control=control,
        paused=lambda host, seconds: told.update({host: time.monotonic() + seconds}),
        spilling=spilling,
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit), contextlib.aclosing(outcomes):  # type: ignore[type-var]
            async for outcome in outcomes:
                assert isinstance(outcome.target.key, int)
                found[outcome.target.key] = room.take(outcome)
    elapsed = time.monotonic() - began
    return [
        found.get(index) or _cut(target, epoch, elapsed, limit, too_long.get(target.host))
        for index, target in enumerate(targets)
    ], told


class _Room:
    """The bytes that all bodies of a call may take together."""

    def __init__(self, most: int, spilling: Spilling) -> None:
        self._most = self._left = most
        self._spilling = spilling

    def take(self, outcome: Outcome) -> Outcome:
        """Return the outcome, without its body where there is no room for it.

        A success has then failed; what had failed before has failed for its own reason.
        """
        body = outcome.body
        if body is None or len(body) <= self._left:
            self._left -= len(body or b"")
            return outcome
        if isinstance(body, SpilledBody):
            self._spilling.discard(body)
        if outcome.status is not Status.SUCCEEDED:
            return msgspec.structs.replace(outcome, body=None)
        detail = f"the bodies of this call take more than {self._most} bytes together (FETCHER_FANOUT_MAX_BYTES)"
        return msgspec.structs.replace(
            outcome, status=Status.FAILED, error_kind=ErrorKind.TOO_LARGE, error_detail=detail, body=None
        )


def _extracted(extract: Extract, outcomes: Sequence[Outcome], until: float) -> list[Found]:
    return extract(outcomes, seconds=until - time.monotonic())


def _config(settings: Settings) -> FetchConfig:
    defaults = callers_config()
    return dataclasses.replace(
        defaults,
        deadline=min(defaults.deadline, settings.fanout_deadline),
        total_deadline=min(defaults.total_deadline, settings.fanout_deadline),
        max_body=min(defaults.max_body, settings.fanout_max_bytes),
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


async def _in_pool(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Evaluate where a slow expression takes nothing from those who read the database."""
    return await sync_to_async(function, thread_sensitive=False, executor=_THREADS)(*args, **kwargs)


def _paused(hosts: Collection[str], config: FetchConfig) -> dict[str, float]:
    """Return the seconds that are left of the pauses of these hosts."""
    return {host: pause.seconds for host, pause in pauses.in_force(config.max_retry_after, list(hosts)).items()}


def _save(
    config: FetchConfig,
    outcomes: Sequence[Outcome],
    settings: Settings,
    epoch: float,
    extracted: Sequence[Found],
    told: dict[str, float],
) -> int:
    pauses.save(told)
    return save_whole_run(config, outcomes, settings, source="fanout", began=epoch, extracted=extracted)
