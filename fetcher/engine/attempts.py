"""What becomes of a turn: one hop is sent, and its answer is a redirect to follow, a failure to retry, or the verdict.

Whatever is to be sent again goes back into the queues, to the host that it is for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from msgspec.structs import replace

from fetcher.engine.bodies import Spilling
from fetcher.engine.client import Client, Exchange, Hop
from fetcher.engine.config import FetchConfig
from fetcher.engine.defects import report_defect
from fetcher.engine.errors import ErrorKind, FetchError, OwnFault, SpillFailed
from fetcher.engine.journey import Journey
from fetcher.engine.limits import HostQueues, Turn
from fetcher.engine.retry import PAUSING_STATUSES, Failure, RetryPolicy, parse_retry_after
from fetcher.engine.sensitive import mask_text
from fetcher.engine.types import Outcome, Redirect, Status

log = logging.getLogger(__name__)

Paused = Callable[[str, float], None]
"""Hears that a host asked to be left alone, and for how many seconds."""
FAULT_WAIT_SECONDS = 1.0
"""How long a target waits that this machine could not send."""
FAULT_REPEAT_SECONDS = 60.0
"""Seconds between two warnings of one fault of this machine."""
_NO_ANSWER = frozenset({ErrorKind.DNS, ErrorKind.CONNECT, ErrorKind.TIMEOUT})


@dataclass(slots=True)
class Meter:
    """What a running ``fetch_all`` is doing, for whoever shows progress."""

    in_flight: int = 0
    peak: int = 0
    held: int = 0
    """Targets inside: queued, in flight or waiting for a retry."""
    retries: int = 0


class Attempts:
    """Uses turns of ``queues``. ``paused`` hears of every Retry-After that is kept."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        config: FetchConfig,
        queues: HostQueues[Journey],
        meter: Meter,
        paused: Paused | None,
        spilling: Spilling | None = None,
    ) -> None:
        self._client = Client(transport, config, spilling)
        self._config = config
        self._policy = RetryPolicy(config)
        self._queues = queues
        self._meter = meter
        self._paused = paused
        self._warned: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    async def use(self, turn: Turn[Journey]) -> Outcome | None:
        """Use a turn and release it. Returns the outcome, or None where the journey went back into a queue.

        A defect on the way is this target's outcome. Raises SpillFailed, a fault of this machine.
        """
        journey = turn.entry
        try:
            if journey.target.refused:
                return journey.outcome(Status.FAILED, ErrorKind.INTERNAL, journey.target.refused)
            if turn.dead is not None:
                return self._skip(journey, turn)
            self._meter.in_flight += 1
            self._meter.peak = max(self._meter.peak, self._meter.in_flight)
            try:
                return await self._advance(journey, turn.host)
            finally:
                self._meter.in_flight -= 1
        except SpillFailed:
            raise
        except Exception as exc:  # noqa: BLE001  (in judging: pushing a journey back is the last that is done to it)
            return journey.broken(report_defect(exc, "judging the answer"))
        finally:
            self._queues.release(turn, now=self._loop.time())

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
        began = self._loop.time()
        journey.begin(began)
        journey.exchange = exchange = Exchange()
        try:
            hop = journey.hop = journey.hop or self._client.first_hop(journey.target)
            await self._send(journey, hop, host)
            following = self._client.next_hop(hop, exchange)
        except OwnFault as exc:
            return self._put_off(journey, host, exc, began)
        except FetchError as exc:
            return self._failed(journey, host, exc)
        except SpillFailed:
            raise
        except Exception as exc:  # noqa: BLE001  (a defect, ours or a transport's, costs one target, not the run)
            report_defect(exc, "requesting")
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
        sent = True
        try:
            await self._client.send(hop, journey.exchange, budget=budget)
        except OwnFault:
            sent = False
            raise
        finally:
            if sent:
                journey.spend(self._loop.time() - began)
            if journey.exchange.status is not None:  # a sign of life, whatever became of the body
                self._queues.answered(host)

    def _put_off(self, journey: Journey, host: str, fault: OwnFault, began: float) -> Outcome | None:
        """Send a hop again later if this machine could not send it: that counts neither as an attempt nor for the host.

        A target has waited for this machine long enough when all its attempts could have been made.
        """
        now = self._loop.time()
        if now - self._warned.get(fault.detail, -FAULT_REPEAT_SECONDS) >= FAULT_REPEAT_SECONDS:
            self._warned[fault.detail] = now
            log.warning("%s. These requests do not count as attempts and are sent again", fault.detail)
        if journey.put_off_for >= self._config.total_deadline:
            return self._failed(journey, host, FetchError(fault.detail, kind=fault.kind, answered=True))
        journey.put_off(now - began + FAULT_WAIT_SECONDS)
        self._queues.push(host, journey, now=now, at=now + FAULT_WAIT_SECONDS, front=True)
        return None

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
            if exchange.remark:
                detail += f"; {exchange.remark}"
            return self._failed(journey, host, FetchError(detail, kind=ErrorKind.HTTP_STATUS, answered=True))
        journey.end_attempt(None, "", None)
        return journey.outcome(Status.SUCCEEDED, None, exchange.remark)

    def _failed(self, journey: Journey, host: str, error: FetchError) -> Outcome | None:
        now = self._loop.time()
        if error.kind in _NO_ANSWER:
            if error.answered:
                self._queues.hung(host)
            else:
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
        # Text for people, which may repeat a URL: the server's, the target's, or one in an unforeseen error.
        detail = mask_text(error.detail, self._config.secret_parameters)
        journey.end_attempt(error.kind, detail, wait)
        if wait is None:
            return journey.outcome(Status.FAILED, error.kind, detail)
        self._meter.retries += 1
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
            self._queues.pause(host, until=now + seconds, now=now)
            if self._paused is not None:
                self._paused(host, seconds)
        return seconds


def _out_of_time(left: float, config: FetchConfig) -> str:
    if left <= 0:
        return f"all attempts together took longer than {config.total_deadline:g} s (--total-deadline)"
    return f"the attempt took longer than {config.deadline:g} s (--deadline)"
