"""Many targets at once: bounded workers take turns from the host queues and yield one outcome a target.

A target's journey through here::

    source -> host queue -> a worker sends one hop -> redirect: back to the queue of the new host
                                                   -> failure worth a retry: back to the queue, kept back for the wait
                                                   -> verdict: one Outcome

So whatever waits (its turn, a host delay, a pause, a backoff) is an entry in a queue and holds no slot. There are at
most ``concurrency`` workers, and at most ``look_ahead`` times as many targets in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, replace

import httpx

from fetcher.engine.client import Client, Exchange, Hop
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.errors import ErrorKind, FetchError
from fetcher.engine.journey import Journey
from fetcher.engine.limits import HostQueues, Turn
from fetcher.engine.retry import PAUSING_STATUSES, Failure, RetryPolicy, parse_retry_after
from fetcher.engine.transport import open_transport
from fetcher.engine.types import Outcome, Redirect, Status, Target

_NO_ANSWER = frozenset({ErrorKind.DNS, ErrorKind.CONNECT, ErrorKind.TIMEOUT})


@dataclass(slots=True)
class Meter:
    """What a running ``fetch_all`` is doing, for whoever shows progress."""

    in_flight: int = 0
    peak: int = 0
    held: int = 0
    """Targets inside: queued, in flight or waiting for a retry."""
    retries: int = 0


async def fetch_all(
    targets: Iterable[Target] | AsyncIterable[Target],
    config: FetchConfig,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    meter: Meter | None = None,
    control: Control | None = None,
) -> AsyncIterator[Outcome]:
    """Fetch targets and yield one Outcome for each, in the order in which they finish.

    The source is read only as far ahead as the configuration allows, and waits while outcomes are not taken. Without a
    ``transport`` one is opened and closed here. Leaving early cancels what is in flight; wrap the iterator in
    ``contextlib.aclosing`` to have that done at once. A source that is an asynchronous generator is closed as well.
    Once the ``control`` stops it, what is in flight has its outcomes, and nothing else.

    Whatever goes wrong with a target is its outcome. What the source raises goes through, after the outcomes of all
    before it; RuntimeError only where a transport cancels the task that called it.
    """
    own = open_transport(config) if transport is None else None
    used = transport or own
    assert used is not None
    runner = _Runner(targets, config, used, meter or Meter(), control or Control())
    try:
        async with contextlib.aclosing(runner.outcomes()) as outcomes:
            async for outcome in outcomes:
                yield outcome
    finally:
        try:
            await runner.close()
        finally:
            if own is not None:
                await own.aclose()


class _Runner:
    def __init__(
        self,
        targets: Iterable[Target] | AsyncIterable[Target],
        config: FetchConfig,
        transport: httpx.AsyncBaseTransport,
        meter: Meter,
        control: Control,
    ) -> None:
        self._targets = targets
        self._config = config
        self._client = Client(transport, config)
        self._policy = RetryPolicy(config)
        self._queues: HostQueues[Journey] = HostQueues(
            per_host=config.per_host, host_delay=config.host_delay, host_failures=config.host_failures
        )
        self.meter = meter
        self._control = control
        control.listen(self._controlled)
        self._limit = config.concurrency * config.look_ahead
        self._room = asyncio.Event()
        self._room.set()
        self._out: asyncio.Queue[Outcome | None] = asyncio.Queue(maxsize=config.concurrency)
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._fed = False
        self._closing = False
        self._held = 0
        self._busy = 0
        self._defect: BaseException | None = None
        self._loop = asyncio.get_running_loop()

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        self._feeder = asyncio.create_task(self._feed())
        while not (self._fed and self._held == 0) and not self._stood_still():
            outcome = await self._out.get()
            if outcome is None:
                break
            self._hold(-1)
            if self._held < self._limit:
                self._room.set()
            yield outcome
        if self._defect is not None:
            raise self._defect
        if not self._control.stopped:
            await self._feeder  # raises what the source raised

    async def close(self) -> None:
        self._closing = True
        self._hold(-self._held)
        if self._timer:
            self._timer.cancel()
        tasks = [task for task in (self._feeder, *self._workers) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hold(self, change: int) -> None:
        # Counted apart from the meter, which is the caller's and may outlive this run.
        self._held += change
        self.meter.held += change

    # The control

    def _controlled(self) -> None:
        if self._closing:
            return
        if self._control.sending:
            self._wake()
        self._say_if_still()

    def _stood_still(self) -> bool:
        """Whether it was stopped, and all that was in flight then is out."""
        return self._control.stopped and not self._busy and self._out.empty()

    def _say_if_still(self) -> None:
        """Wake a reader that waits in vain; one that has outcomes left to take looks for itself."""
        if self._stood_still():
            self._out.put_nowait(None)

    # The source

    async def _feed(self) -> None:
        try:
            async with contextlib.aclosing(_as_async(self._targets)) as source:
                async for target in source:
                    self._accept(target)
                    if self._held >= self._limit:
                        self._room.clear()
                        await self._room.wait()
        finally:
            self._fed = True
            if self._held == 0:  # nothing is on its way that would wake the reader; so the queue is empty
                self._out.put_nowait(None)

    def _accept(self, target: Target) -> None:
        self._hold(1)
        self._queues.push(target.host, Journey(target), now=self._loop.time())
        self._wake()

    # The workers

    def _wake(self) -> None:
        """Set one worker to work: an idle one, or a new one while there may be more."""
        while self._idle:
            future = self._idle.pop()
            if not future.done():
                future.set_result(None)
                return
        if len(self._workers) < self._config.concurrency:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        """Workers end by being cancelled at the close. One that ended otherwise is a defect, not to pass unseen."""
        if self._closing:
            return
        # Cancelled from elsewhere (a transport that cancels its caller), it would leave a target without an outcome.
        self._defect = RuntimeError("a worker was cancelled") if worker.cancelled() else worker.exception()
        while not self._out.empty():
            self._out.get_nowait()
        self._out.put_nowait(None)

    async def _work(self) -> None:
        while True:
            turn = self._queues.pop(self._loop.time()) if self._control.sending else None
            # Also with a turn in hand: taking it may have begun a host delay, at whose end another worker must wake.
            self._arm()
            if turn is None:
                await self._rest()
                continue
            if self._queues.has_turn(self._loop.time()):
                self._wake()  # one who is woken wakes the next: a pause that ends may let many go
            self._busy += 1
            try:
                outcome = await self._take(turn)
                if outcome is not None:
                    await self._out.put(outcome)
            finally:
                self._busy -= 1
            self._say_if_still()

    async def _rest(self) -> None:
        """Wait until there may be a turn again."""
        future = self._loop.create_future()
        self._idle.append(future)
        await future

    def _arm(self) -> None:
        wake_at = self._queues.wake_at()
        if wake_at is None or not self._control.sending:
            return
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= wake_at and self._timer.when() > self._loop.time():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(wake_at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    async def _take(self, turn: Turn[Journey]) -> Outcome | None:
        """Use a turn. Returns the outcome, or None where the journey went back into a queue."""
        journey = turn.entry
        try:
            if journey.target.refused:
                return journey.outcome(Status.FAILED, ErrorKind.INTERNAL, journey.target.refused)
            if turn.dead is not None:
                return self._skip(journey, turn)
            self.meter.in_flight += 1
            self.meter.peak = max(self.meter.peak, self.meter.in_flight)
            try:
                return await self._advance(journey, turn.host)
            finally:
                self.meter.in_flight -= 1
        finally:
            self._queues.release(turn.host, now=self._loop.time())
            self._arm()

    def _skip(self, journey: Journey, turn: Turn[Journey]) -> Outcome:
        times = f"{turn.host} gave no answer {self._config.host_failures} times in a row (--host-failures)"
        if journey.redirects:
            journey.exchange = Exchange()  # the one that there is belongs to the hop before
            journey.end_attempt(turn.dead, f"redirect not followed: {times}", None)
        if journey.attempts:  # it was requested before the host was given up: then its own failure stands
            last = journey.attempts[-1] = replace(journey.attempts[-1], waited=None, wait_reason=None)
            return journey.outcome(Status.FAILED, last.error_kind, last.error_detail)
        return journey.outcome(Status.SKIPPED, turn.dead, f"not requested: {times}")

    async def _advance(self, journey: Journey, host: str) -> Outcome | None:
        journey.begin(self._loop.time())
        journey.exchange = exchange = Exchange()
        try:
            hop = journey.hop = journey.hop or self._client.first_hop(journey.target)
            await self._send(journey, hop, host)
            following = self._client.next_hop(hop, exchange)
        except FetchError as exc:
            return self._failed(journey, host, exc)
        except Exception as exc:  # noqa: BLE001  (a defect, ours or a transport's, costs one target, not the run)
            detail = f"{type(exc).__name__}: {exc}"
            return self._failed(journey, host, FetchError(detail, kind=ErrorKind.INTERNAL, answered=True))
        if following is not None:
            assert exchange.status is not None
            journey.redirects.append(Redirect(exchange.status, hop.url.href, following.url.href))
            journey.hop = following
            self._queues.push(following.url.host, journey, now=self._loop.time(), front=True)
            return None
        return self._judge(journey, host)

    async def _send(self, journey: Journey, hop: Hop, host: str) -> None:
        began = self._loop.time()
        assert journey.first_at is not None
        left = self._config.total_deadline - (began - journey.first_at)
        budget = min(self._config.deadline - journey.spent, left)
        if budget <= 0:
            # Said of the waiting, not of the host: "answered" keeps it from counting against the host.
            text = _out_of_time(left, self._config)
            raise FetchError(text, kind=ErrorKind.TIMEOUT, retryable=True, answered=True)
        try:
            await self._client.send(hop, journey.exchange, budget=budget)
        finally:
            journey.spend(self._loop.time() - began)
            if journey.exchange.status is not None:  # a sign of life, whatever became of the body
                self._queues.answered(host)

    # The verdict

    def _judge(self, journey: Journey, host: str) -> Outcome | None:
        exchange = journey.exchange
        assert exchange.status is not None
        if exchange.status == 304:
            if exchange.conditional:
                journey.end_attempt(None, "", None)
                return journey.outcome(Status.NOT_MODIFIED)
            error = FetchError("304 Not Modified to an unconditional request", kind=ErrorKind.PROTOCOL, answered=True)
            return self._failed(journey, host, error)
        if exchange.status >= 400:
            detail = f"HTTP {exchange.status} {httpx.codes.get_reason_phrase(exchange.status)}".rstrip()
            return self._failed(journey, host, FetchError(detail, kind=ErrorKind.HTTP_STATUS, answered=True))
        journey.end_attempt(None, "", None)
        return journey.outcome(Status.SUCCEEDED)

    def _failed(self, journey: Journey, host: str, error: FetchError) -> Outcome | None:
        now = self._loop.time()
        if not error.answered and error.kind in _NO_ANSWER:
            self._queues.failed(host, error.kind, now=now)
        failure = Failure(error.kind, error.retryable, journey.exchange.status, self._retry_after(journey, host, now))
        wait = None
        if not self._queues.is_dead(journey.target.host):
            assert journey.first_at is not None
            wait = self._policy.decide(
                failure,
                method=journey.target.method,
                opted_in=journey.target.retry,
                attempt=len(journey.attempts) + 1,
                since_first=now - journey.first_at,
            )
        journey.end_attempt(error.kind, error.detail, wait)
        if wait is None:
            return journey.outcome(Status.FAILED, error.kind, error.detail)
        self.meter.retries += 1
        journey.restart()
        self._queues.push(journey.target.host, journey, now=now, at=now + wait.seconds, front=True)
        return None

    def _retry_after(self, journey: Journey, host: str, now: float) -> float | None:
        """Read the answer's Retry-After, and keep the whole host waiting for it."""
        value = journey.exchange.header("retry-after")
        if journey.exchange.status not in PAUSING_STATUSES or value is None:
            return None
        seconds = parse_retry_after(value, now=time.time(), longest=self._config.max_retry_after)
        if seconds is not None:
            self._queues.pause(host, until=now + seconds)
        return seconds


def _out_of_time(left: float, config: FetchConfig) -> str:
    if left <= 0:
        return f"all attempts together took longer than {config.total_deadline:g} s (--total-deadline)"
    return f"the attempt took longer than {config.deadline:g} s (--deadline)"


async def _as_async(targets: Iterable[Target] | AsyncIterable[Target]) -> AsyncGenerator[Target, None]:
    if isinstance(targets, AsyncIterable):
        async with contextlib.AsyncExitStack() as stack:
            source = aiter(targets)
            if isinstance(source, AsyncGenerator):
                stack.push_async_callback(source.aclose)
            async for target in source:
                yield target
    else:
        for target in targets:
            yield target
