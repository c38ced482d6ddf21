"""What is known of one target while it is fetched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from fetcher.engine.bodies import SpilledBody
from fetcher.engine.client import Exchange, Hop
from fetcher.engine.defects import report_defect
from fetcher.engine.errors import ErrorKind
from fetcher.engine.retry import Wait
from fetcher.engine.types import Attempt, Outcome, Redirect, Status, Target, Timings, Tried

_ATTEMPTS_KEPT = 1_000
"""Attempts of an outcome that was given up, at most."""
_FAR_FUTURE = 1e10
"""Seconds since the epoch: the year 2286."""
_NO_TIMINGS = Timings()
_NOTHING = Exchange()
"""What there is before anything was sent. Never filled in: each hop has its own."""


@dataclass(slots=True, eq=False)
class Journey:
    """A target between its acceptance and its outcome: the attempt under way, and those before it.

    Times are seconds; ``first_at`` is monotonic, names in ``_epoch`` count from the epoch (0: not begun), ``spent`` is
    the attempt's time on the network so far. This machine could not send it for ``put_off_for`` seconds, which count
    neither for the attempt nor for all of them together.
    """

    target: Target
    hop: Hop | None = None
    """The request to send next; None before an attempt's first."""
    attempts: list[Attempt] = field(default_factory=list)
    first_at: float | None = None
    first_epoch: float = 0.0
    attempt_epoch: float = 0.0
    spent: float = 0.0
    put_off_for: float = 0.0
    redirects: list[Redirect] = field(default_factory=list)
    timings: Timings = _NO_TIMINGS
    exchange: Exchange = field(default_factory=lambda: _NOTHING)

    @classmethod
    def take_up(cls, target: Target, now: float) -> tuple[Journey, float | None]:
        """Begin with a target, or go on with one that was put down; returns also when it may be sent (monotonic)."""
        tried = target.tried
        if tried is None:
            return cls(target), None
        epoch = time.time()
        first_at = now - tried.since_first(epoch)
        journey = cls(target, attempts=list(tried.attempts), first_at=first_at, first_epoch=tried.first_epoch)
        return journey, now + tried.still_to_wait(epoch)

    def put_down(self, now: float, due: float | None) -> Tried | None:
        """Return what another journey needs to go on, None where nothing was tried; ``due`` is monotonic."""
        if not self.attempts or self.first_at is None:
            return None
        epoch = time.time()
        due_epoch = epoch if due is None else epoch + max(0.0, due - now)
        return Tried(tuple(self.attempts), self.first_epoch, now - self.first_at, due_epoch, epoch)

    def begin(self, now: float) -> None:
        """Start an attempt, unless one is under way (a redirect came back from the queue)."""
        if self.attempt_epoch:
            return
        self.attempt_epoch = time.time()
        if self.first_at is None:
            self.first_at, self.first_epoch = now, self.attempt_epoch

    def spend(self, seconds: float) -> None:
        """Add a hop's time on the network to the attempt's."""
        wire, before = self.exchange.wire, self.timings
        first_byte = None if self.exchange.first_byte is None else self.spent + self.exchange.first_byte
        self.spent += seconds
        self.timings = Timings(
            dns=_sum(before.dns, wire.dns),
            connect=_sum(before.connect, wire.connect),
            tls=_sum(before.tls, wire.tls),
            first_byte=first_byte,
            total=self.spent,
        )

    def put_off(self, seconds: float) -> None:
        """Take the hop that was begun last for not begun; so many seconds pass until it is sent again."""
        self.put_off_for += seconds
        if not self.redirects:
            self.attempt_epoch = 0.0
        if self.attempts or self.redirects:
            assert self.first_at is not None
            self.first_at += seconds
        else:
            self.first_at, self.first_epoch = None, 0.0

    def end_attempt(self, kind: ErrorKind | None, detail: str, wait: Wait | None) -> None:
        """Note how the attempt ended and what is waited for after it."""
        wire = self.exchange.wire
        self.attempts.append(
            Attempt(
                number=len(self.attempts) + 1,
                started_at=self.attempt_epoch,
                elapsed=self.spent,
                address=wire.address,
                http_version=wire.http_version,
                http_status=self.exchange.status,
                error_kind=kind,
                error_detail=detail,
                timings=self.timings,
                waited=wait.seconds if wait else None,
                wait_reason=wait.reason if wait else None,
            )
        )

    def restart(self) -> None:
        """Forget the attempt that ended; the next begins at the target's own URL.

        What it was answered is kept until then, for it is the verdict where the host is given up meanwhile; but not a
        file, of which too many would be open while they all wait.
        """
        if isinstance(self.exchange.body, SpilledBody):
            self.exchange.body.close()
            self.exchange.body = None
        self.hop = None
        self.attempt_epoch = self.spent = 0.0
        self.redirects = []
        self.timings = _NO_TIMINGS

    def outcome(self, status: Status, kind: ErrorKind | None = None, detail: str = "") -> Outcome:
        """Return the verdict. The answer is the last attempt's, where that had one."""
        finished = time.time()
        answered = self.attempts and self.attempts[-1].http_status is not None
        elapsed = time.monotonic() - self.first_at if self.first_at is not None else 0.0
        return Outcome(
            target=self.target,
            status=status,
            started_at=self.first_epoch or finished,
            finished_at=finished,
            elapsed=elapsed,
            final_url=self.hop.url.href if self.hop else self.target.url,
            error_kind=kind,
            error_detail=detail,
            http_status=self.attempts[-1].http_status if answered else None,
            headers=self.exchange.headers if answered else (),
            body=self.exchange.body if answered else None,
            redirects=tuple(self.redirects),
            attempts=tuple(self.attempts),
        )

    def broken(self, detail: str) -> Outcome:
        """Return ``internal`` as the verdict, with nothing of the answer: what is wrong with it is not known."""
        if isinstance(self.exchange.body, SpilledBody):
            self.exchange.body.close()
        attempts = list(self.attempts)
        if self.attempt_epoch and (not attempts or attempts[-1].started_at != self.attempt_epoch):
            attempts.append(Attempt(len(attempts) + 1, self.attempt_epoch, self.spent))  # it was under way
        return bare_failure(self.target, detail, attempts=attempts, started_at=self.first_epoch)


def begin_journey(target: Target, now: float) -> tuple[Journey, float | None]:
    """Do as ``Journey.take_up``, but refuse a target whose stored attempts make no sense."""
    try:
        return Journey.take_up(target, now)
    except Exception as exc:  # noqa: BLE001  (whatever is wrong with them costs this target only)
        detail = report_defect(exc, "taking up a target that was tried before")
        return Journey(replace(target, refused=detail, tried=None)), None


def bare_failure(target: Target, detail: str, *, attempts: Sequence[Attempt] = (), started_at: float = 0.0) -> Outcome:
    """Return ``internal`` as a target's outcome, with nothing that a server sent.

    ``started_at`` is seconds since the epoch, 0 where it is not known when the first attempt began.
    """
    finished = time.time()
    started = _plausible(started_at) or finished
    return Outcome(
        target=target,
        status=Status.FAILED,
        started_at=started,
        finished_at=finished,
        elapsed=max(0.0, finished - started),
        final_url=target.url,
        error_kind=ErrorKind.INTERNAL,
        error_detail=detail,
        attempts=bare_attempts(attempts),
    )


def bare_attempts(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return attempts with their numbers and times only, and these only where they are plausible."""
    return tuple(
        Attempt(number, _plausible(attempt.started_at), _plausible(attempt.elapsed))
        for number, attempt in enumerate(attempts[:_ATTEMPTS_KEPT], 1)
    )


def _plausible(seconds: float) -> float:
    return seconds if 0 < seconds < _FAR_FUTURE else 0.0


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other
