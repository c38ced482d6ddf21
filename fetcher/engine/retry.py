"""What is retried, how long it waits, and when it stops: tenacity's strategies, asked for a decision.

tenacity decides and the runner waits: its own loop would sleep inside the coroutine that holds the host's slot. So the
policy feeds ``BaseRetrying.iter`` the state of one target after each failed attempt and reads the action off. What
succeeds at once never comes here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import tenacity
from tenacity.wait import wait_base

from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, section 9.2.1: sending them twice asks nothing more of the server than sending them once."""
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
PAUSING_STATUSES = frozenset({429, 503})
"""Answers whose Retry-After is meant for the whole host (RFC 9110, section 10.2.3; RFC 6585, section 4)."""
# Python's parser takes the year 0026 for 2026, as if it had two digits. The sign of a zone (+0100) comes before others.
_YEAR_BEFORE_1000 = re.compile(r"(?<![0-9+-])0[0-9]{3}(?![0-9])")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a policy needs to know of a failed attempt.

    ``retryable`` is the error's own opinion; an ``http_status`` failure is judged by the status instead.
    ``retry_after`` is the server's wish in seconds, already capped.
    """

    kind: ErrorKind
    retryable: bool = False
    http_status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after so many seconds; ``reason`` is ``backoff`` or ``retry_after``, the one that was longer."""

    seconds: float
    reason: str


class _Again(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind)
        self.failure = failure


def _failure(state: tenacity.RetryCallState) -> Failure:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, _Again)
    return error.failure


class _WaitAsTold(wait_base):
    """The longer of the server's Retry-After and exponential backoff with full jitter.

    Full jitter: uniform between 0 and the exponential bound, so that targets that failed together do not return
    together. A Retry-After of 0, or a date that has passed, must not turn the retries into a burst.
    """

    def __init__(self, base: float, longest: float, uniform: Callable[[float, float], float]) -> None:
        self._bound = tenacity.wait_exponential(multiplier=base, max=longest)
        self._uniform = uniform

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        return max(_failure(retry_state).retry_after or 0.0, self._uniform(0, self._bound(retry_state)))


def _worth_it(state: tenacity.RetryCallState) -> bool:
    failure = _failure(state)
    if failure.kind is ErrorKind.HTTP_STATUS:
        return failure.http_status in RETRYABLE_STATUSES
    return failure.retryable


class RetryPolicy:
    """Values in, decision out. ``uniform`` draws the jitter; tests inject their own."""

    def __init__(self, config: FetchConfig, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._total_deadline = config.total_deadline
        self._retrying = tenacity.Retrying(
            retry=_worth_it,
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(config.max_attempts),
                tenacity.stop_before_delay(config.total_deadline),
            ),
            wait=_WaitAsTold(config.backoff_base, config.backoff_max, uniform),
        )

    def decide(self, failure: Failure, *, method: str, opted_in: bool, attempt: int, since_first: float) -> Wait | None:
        """Decide about the attempt numbered ``attempt`` (from 1), ``since_first`` seconds after the first began.

        Returns None where it is final: not worth it, an unsafe method without the target's consent, the attempts used
        up, or the wait would end after the total deadline.
        """
        if method not in SAFE_METHODS and not opted_in:
            return None
        state = tenacity.RetryCallState(self._retrying, None, (), {})
        error = _Again(failure)
        state.set_exception((_Again, error, None))
        state.attempt_number = attempt
        # The engine's clock, not tenacity's: the state was made only now.
        state.start_time, state.outcome_timestamp = 0.0, since_first
        self._retrying.begin()
        try:
            action: Any = self._retrying.iter(state)
        except (tenacity.RetryError, _Again):
            return None
        told = failure.retry_after is not None and failure.retry_after >= action
        return Wait(float(action), "retry_after" if told else "backoff")


def parse_retry_after(value: str, *, now: float, longest: float) -> float | None:
    """Read a Retry-After field: seconds or an HTTP date (RFC 9110, section 10.2.3).

    ``now`` is seconds since the epoch. Returns seconds between 0 and ``longest``, or None for nonsense (a sign, a
    fraction, ``nan``, a date that cannot be read or is of the year 0000), which is ignored.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Digits enough for any sane wait; int() of a header-sized number would be a way to burn our time.
        digits = value.lstrip("0")
        return min(float(digits or 0), longest) if len(digits) <= 12 else longest
    if _YEAR_BEFORE_1000.search(value):
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        wait = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    except OverflowError:
        return None
    return min(max(wait, 0.0), longest)
