"""Many targets at once: bounded workers take turns from the host queues and yield one outcome a target.

A target's journey through here::

    source -> host queue -> a worker sends one hop -> redirect: back to the queue of the new host
                                                   -> failure worth a retry: back to the queue, kept back for the wait
                                                   -> verdict: one Outcome

So whatever waits (its turn, a host delay, a pause, a backoff) is an entry in a queue and holds no slot. There are at
most ``concurrency`` workers, and ``look_ahead`` times as many targets in memory; at most as many again wait for hosts
that do not answer, so that these do not keep the source from being read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable

import httpx

from fetcher.engine.alarms import Alarm
from fetcher.engine.attempts import Attempts, Meter, Paused
from fetcher.engine.bodies import Spilling
from fetcher.engine.config import FetchConfig
from fetcher.engine.control import Control
from fetcher.engine.journey import Journey, begin_journey
from fetcher.engine.limits import HostQueues
from fetcher.engine.slots import OPENING_SECONDS
from fetcher.engine.transport import ConnectionOptions, open_transport
from fetcher.engine.types import Outcome, Target, Tried

__all__ = ["Left", "Meter", "Paused", "fetch_all"]

Left = Callable[[Target, Tried | None], None]
"""Hears of a target that is given back, and what was tried of it."""
LOOK_SECONDS = 1.0
"""Between two looks at which requests have become stuck."""
HOP_WAIT = 1.0
"""Seconds that the next hop of an attempt is waited for once it was stopped."""


async def fetch_all(
    targets: Iterable[Target] | AsyncIterable[Target],
    config: FetchConfig,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    connections: ConnectionOptions | None = None,
    meter: Meter | None = None,
    control: Control | None = None,
    left: Left | None = None,
    paused: Paused | None = None,
    spilling: Spilling | None = None,
) -> AsyncIterator[Outcome]:
    """Fetch targets and yield one Outcome for each, in the order in which they finish.

    The source is read only as far ahead as the configuration allows, and waits while outcomes are not taken. Without a
    ``transport`` one is opened by ``connections`` and closed here. Leaving early cancels what is in flight; wrap the
    iterator in ``contextlib.aclosing`` to have that done at once. A source that is an asynchronous generator is closed
    as well.
    Once the ``control`` stops it, what is in flight has its outcomes, and nothing else; ``left`` hears of every other
    target that was taken from the source, with what was tried of it. ``paused`` hears of every Retry-After that is kept
    for a whole host; of those that others keep the ``control`` is told. Large bodies go where ``spilling`` says, which
    is to be left after the iterator; without it they are kept in memory.

    Whatever goes wrong with a target is its outcome. What the source raises goes through, after the outcomes of all
    before it; SpillFailed where a large body has no room; RuntimeError only where a transport cancels the task that
    called it.
    """
    own = open_transport(config, connections) if transport is None else None
    used = transport or own
    assert used is not None
    runner = _Runner(targets, config, used, meter or Meter(), control or Control(), left, paused, spilling)
    try:
        while (outcome := await runner.take()) is not None:
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
        left: Left | None,
        paused: Paused | None,
        spilling: Spilling | None,
    ) -> None:
        self._targets = targets
        self._config = config
        self._queues: HostQueues[Journey] = HostQueues(
            per_host=config.per_host,
            host_delay=config.host_delay,
            host_failures=config.host_failures,
            slots=config.concurrency,
        )
        self._attempts = Attempts(transport, config, self._queues, meter, paused, spilling)
        self._meter = meter
        self._left = left
        self._control = control
        self._limit = config.concurrency * config.look_ahead
        self._room = asyncio.Event()
        self._out: asyncio.Queue[Outcome | None] = asyncio.Queue(maxsize=config.concurrency)
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._alarm, self._looking = Alarm(self._wake), Alarm(self._look)
        self._feeder: asyncio.Task[None] | None = None
        self._fed = False
        self._closing = False
        self._held = 0
        self._busy = 0
        self._going = 0
        self._defect: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        control.listen(self._controlled)
        self._pause()
        self._share()

    async def take(self) -> Outcome | None:
        """Return the next outcome, None after the last. Raises what the source raised."""
        if self._feeder is None:
            self._feeder = asyncio.create_task(self._feed())
            self._looking.set(self._loop.time() + OPENING_SECONDS)
        if not (self._fed and self._held == 0) and not self._stood_still():
            # Mostly there are some: then there is nothing to wait for.
            outcome = await self._out.get() if self._out.empty() else self._out.get_nowait()
            if outcome is not None:
                self._hold(-1)
                if not self._is_full():
                    self._room.set()
                return outcome
        if self._defect is not None:
            raise self._defect
        if not self._control.stopped:
            await self._feeder
        return None

    async def close(self) -> None:
        self._closing = True
        self._hold(-self._held)
        self._alarm.cancel()
        self._looking.cancel()
        tasks = [task for task in (self._feeder, *self._workers) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hold(self, change: int) -> None:
        self._held += change  # apart from the meter, which is the caller's and may outlive this run
        self._meter.held += change

    # The control

    def _controlled(self) -> None:
        if self._closing:
            return
        self._pause()
        self._share()
        if self._control.sending:
            self._wake()
        if self._control.stopped and self._left is not None:
            if self._feeder is not None:
                self._feeder.cancel()  # what it may take from the source is left there
            self._put_down()
            if self._going:
                self._arm()
                self._wake()
        self._say_if_still()

    def _pause(self) -> None:
        """Keep the pauses of others as if they were our own."""
        now = self._loop.time()
        for host, seconds in self._control.take_pauses().items():
            self._queues.pause(host, until=now + min(seconds, self._config.max_retry_after), now=now)

    def _share(self) -> None:
        self._most = -(-self._config.concurrency // self._control.sharers)
        self._queues.share(self._most)

    def _put_down(self) -> None:
        """Give back what waits for its turn.

        An attempt between two hops goes on, or its first would be sent again, but where its host is to be left alone.
        """
        assert self._left is not None
        now = self._loop.time()
        self._going = 0
        for journey, due in self._queues.drain(now):
            if journey.hop is not None and self._goes_on(journey.hop.url.host, now):
                self._going += 1
                self._queues.push(journey.hop.url.host, journey, now=now, front=True)
                continue
            self._hold(-1)
            self._left(journey.target, journey.put_down(now, due))

    def _goes_on(self, host: str, now: float) -> bool:
        return not self._control.held and self._queues.closed_for(host, now) <= HOP_WAIT

    def _stood_still(self) -> bool:
        """Whether it was stopped, and all that was in flight then is out."""
        return self._control.stopped and not self._busy and not self._going and self._out.empty()

    def _say_if_still(self) -> None:
        """Wake a reader that waits in vain; one that has outcomes left to take looks for itself."""
        if self._stood_still():
            self._out.put_nowait(None)

    # The source

    async def _feed(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                source = aiter(self._targets) if isinstance(self._targets, AsyncIterable) else _each(self._targets)
                if isinstance(source, AsyncGenerator):
                    stack.push_async_callback(source.aclose)
                async for target in source:
                    self._accept(target)
                    if self._is_full():
                        self._room.clear()
                        await self._room.wait()
        finally:
            self._fed = True
            if self._held == 0 and self._out.empty():  # nothing is on its way that would wake the reader
                self._out.put_nowait(None)

    def _is_full(self) -> bool:
        """Whether no more is to be read for now; what waits for hosts that do not answer has a bound of its own."""
        return self._held >= self._limit + min(self._queues.waiting_apart, self._limit)

    def _accept(self, target: Target) -> None:
        now = self._loop.time()
        journey, due = begin_journey(target, now)
        self._hold(1)
        self._queues.push(target.host, journey, now=now, at=due)
        if due is not None:
            self._arm()
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
            turn = self._queues.pop(self._loop.time()) if self._may_send() else None
            # Also with a turn in hand: taking it may have begun a host delay, at whose end another worker must wake.
            self._arm()
            if turn is None:
                self._idle.append(rest := self._loop.create_future())
                await rest  # until there may be a turn again
                continue
            self._busy += 1
            self._going -= self._control.stopped
            if self._may_send() and self._queues.has_turn(self._loop.time()):
                self._wake()  # one who is woken wakes the next: a pause that ends may let many go
            try:
                outcome = await self._attempts.use(turn)
                self._arm()
                if outcome is not None and self._out.full():
                    await self._out.put(outcome)
                elif outcome is not None:
                    self._out.put_nowait(outcome)
            finally:
                self._busy -= 1
            if self._control.stopped and self._left is not None:
                self._put_down()  # what was just pushed back
            self._say_if_still()

    def _may_send(self) -> bool:
        """Whether one more may be sent. Once it was stopped only attempts between two hops are left to be."""
        control = self._control
        return self._busy < self._most and not control.held and (not control.stopped or self._going > 0)

    def _arm(self) -> None:
        wake_at = self._queues.wake_at()
        if wake_at is not None and self._may_send():  # where there is no room, the worker that makes some looks itself
            self._alarm.set(wake_at)

    def _look(self) -> None:
        """Do what no other event does: requests become stuck, which makes room for targets of other hosts."""
        now = self._loop.time()
        self._looking.set(now + LOOK_SECONDS)
        self._queues.age(now)
        if not self._is_full():
            self._room.set()
        if self._may_send() and self._queues.has_turn(now):
            self._wake()


async def _each(targets: Iterable[Target]) -> AsyncGenerator[Target, None]:
    for target in targets:
        yield target
