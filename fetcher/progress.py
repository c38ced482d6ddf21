"""What a run has done so far, for whoever shows it while it goes on. Its size does not grow with the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fetcher.engine.runner import Meter
from fetcher.engine.types import Outcome, Status
from fetcher.estimate import RemainingWork
from fetcher.store.shards import Place

_HOSTS = 2_000


@dataclass(slots=True)
class HostTimes:
    """How long a host's targets took: seconds, waits included."""

    host: str
    count: int = 0
    total: float = 0.0
    longest: float = 0.0

    @property
    def mean(self) -> float:
        """Seconds for each target."""
        return self.total / self.count


@dataclass(slots=True)
class Progress:
    """Counts of saved results, and what is going on. Times are monotonic seconds."""

    run: int = 0
    began: float = field(default_factory=time.monotonic)
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    planned: bool = False
    bytes: int = 0
    unchanged_bytes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    meter: Meter = field(default_factory=Meter)
    work: RemainingWork | None = None
    _best_rate: float = 0.0
    _window: tuple[float, int] = (0.0, 0)
    _hosts: dict[str, HostTimes] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Targets with a saved result."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Saved results that are failed or skipped."""
        return self.statuses[Status.FAILED] + self.statuses[Status.SKIPPED]

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Results saved in each second, over the whole run."""
        return self.done / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until what is accepted is done; None where nothing can be said.

        What the limits leave of the remaining hosts' work decides, but a run is not expected to go faster than it ever
        went.
        """
        if not self.done or not self.planned:
            return None
        at_best = (self.accepted - self.done) / max(self._best_rate, self.rate)
        return max(at_best, (self.work and self.work.seconds_left()) or 0.0)

    def saved(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes that were saved."""
        for outcome in outcomes:
            self.statuses[outcome.status.value] += 1
            self.bytes += len(outcome.body or b"")
            if outcome.attempts:
                self._time(outcome.target.host, outcome.elapsed)
            if outcome.status is Status.NOT_MODIFIED and isinstance(place := outcome.target.key, Place):
                self.unchanged_bytes += place.previous.size if place.previous else 0
            if self.work is not None:
                self.work.done(outcome.target.host, sum(attempt.elapsed for attempt in outcome.attempts))
        self._measure()

    def _measure(self) -> None:
        began, done = self._window
        now = time.monotonic()
        if now - began >= 1:
            if began:
                self._best_rate = max(self._best_rate, (self.done - done) / (now - began))
            self._window = (now, self.done)

    def timed(self, times: HostTimes) -> None:
        """Take what is known of a host from elsewhere."""
        self._hosts[times.host] = times

    def slowest_hosts(self, count: int) -> list[HostTimes]:
        """Return the hosts with the longest mean, slowest first."""
        return sorted(self._hosts.values(), key=lambda times: -times.mean)[:count]

    def _time(self, host: str, seconds: float) -> None:
        times = self._hosts.get(host)
        if times is None:
            if len(self._hosts) >= _HOSTS:  # a host that is among the slowest survives this
                kept = self.slowest_hosts(_HOSTS // 2)
                self._hosts = {times.host: times for times in kept}
            times = self._hosts[host] = HostTimes(host)
        times.count += 1
        times.total += seconds
        times.longest = max(times.longest, seconds)
