"""What a run has done so far, for whoever shows it while it goes on. Its size does not grow with the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

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


class HostTally(msgspec.Struct, array_like=True):
    """Saved results of one host: how many, those that were requested, and seconds.

    ``elapsed`` and ``longest`` count waits in, ``requesting`` does not.
    """

    count: int = 0
    requested: int = 0
    elapsed: float = 0.0
    longest: float = 0.0
    requesting: float = 0.0


class Tally(msgspec.Struct, array_like=True):
    """What a batch of saved results adds up to; small enough to be sent from process to process."""

    statuses: dict[str, int] = {}
    bytes: int = 0
    unchanged_bytes: int = 0
    hosts: dict[str, HostTally] = {}

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Tally:
        """Add outcomes up."""
        tally = cls({}, 0, 0, {})
        statuses = dict.fromkeys(Status, 0)
        for outcome in outcomes:
            statuses[outcome.status] += 1
            if outcome.body is not None:
                tally.bytes += len(outcome.body)
            if outcome.status is Status.NOT_MODIFIED and isinstance(place := outcome.target.key, Place):
                tally.unchanged_bytes += place.previous.size if place.previous else 0
            host = tally.hosts.get(outcome.target.host)
            if host is None:
                host = tally.hosts[outcome.target.host] = HostTally()
            host.count += 1
            if outcome.attempts:
                host.requested += 1
                host.elapsed += outcome.elapsed
                if outcome.elapsed > host.longest:
                    host.longest = outcome.elapsed
                for attempt in outcome.attempts:
                    host.requesting += attempt.elapsed
        tally.statuses = {status.value: count for status, count in statuses.items() if count}
        return tally


class Elsewhere(msgspec.Struct, array_like=True):
    """What another process of the run is doing: requests in flight, and retries so far."""

    in_flight: int = 0
    retries: int = 0


@dataclass(slots=True)
class Progress:
    """Counts of saved results, and what is going on. Times are monotonic seconds.

    ``earlier`` are results that a run which is resumed had before. ``processes`` are the ids of the other processes
    that work for this one, by their numbers, as ``elsewhere`` is what they do. ``workers`` is how many of the cluster's
    are on the run, None for one that is fetched here. ``known`` says whether retries and unchanged bytes are: they are
    not among a run's counters. ``clocked`` says whether it is known when the run began. ``through`` names the library
    that sends requests here.
    """

    run: int = 0
    began: float = field(default_factory=time.monotonic)
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    earlier: int = 0
    planned: bool = False
    bytes: int = 0
    unchanged_bytes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    meter: Meter = field(default_factory=Meter)
    elsewhere: dict[int, Elsewhere] = field(default_factory=dict)
    processes: dict[int, int] = field(default_factory=dict)
    work: RemainingWork | None = None
    workers: int | None = None
    known: bool = True
    clocked: bool = True
    through: str = ""
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
    def in_flight(self) -> int:
        """Requests in flight, in all processes."""
        return self.meter.in_flight + sum(other.in_flight for other in self.elsewhere.values())

    @property
    def retries(self) -> int:
        """Retries so far, in all processes."""
        return self.meter.retries + sum(other.retries for other in self.elsewhere.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Results saved in each second since the beginning; 0 where it is not known how long that is."""
        return (self.done - self.earlier) / self.elapsed if self.clocked and self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until what is accepted is done; None where nothing can be said.

        What the limits leave of the remaining hosts' work decides, but a run is not expected to go faster than it ever
        went.
        """
        if self.done == self.earlier or not self.planned:
            return None
        at_best = (self.accepted - self.done) / max(self._best_rate, self.rate)
        return max(at_best, (self.work and self.work.seconds_left()) or 0.0)

    def take_up(self, counts: Mapping[str, int], *, duplicates: int, rejected: int) -> None:
        """Begin with what was there of the run: ``counts`` by status, of ``planned`` targets and of ``bytes``."""
        self.accepted, self.bytes = counts["planned"], counts["bytes"]
        self.duplicates, self.rejected = duplicates, rejected
        self.statuses.update({status.value: counts[status.value] for status in Status})
        self.earlier = self.done

    def correct(self, counts: Mapping[str, int]) -> None:
        """Take the run's own ``counts``: a worker that was killed could not tell of the last that it saved."""
        self.bytes = counts["bytes"]
        self.statuses = +Counter({status.value: counts[status.value] for status in Status})

    def looked(self, counts: Mapping[str, int], workers: int) -> None:
        """Take what the database says of a run that the cluster fetches."""
        self.correct(counts)
        self.accepted = max(self.accepted, counts["planned"])  # these may be a little old
        self.work, self.workers = None, workers
        self._measure()

    def saved(self, tally: Tally) -> None:
        """Count results that were saved."""
        self.statuses.update(tally.statuses)
        self.bytes += tally.bytes
        self.unchanged_bytes += tally.unchanged_bytes
        for host, figures in tally.hosts.items():
            if figures.requested:
                self._time(host, figures)
            if self.work is not None:
                self.work.done(host, figures.requesting, figures.count)
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

    def _time(self, host: str, figures: HostTally) -> None:
        times = self._hosts.get(host)
        if times is None:
            if len(self._hosts) >= _HOSTS:  # a host that is among the slowest survives this
                kept = self.slowest_hosts(_HOSTS // 2)
                self._hosts = {times.host: times for times in kept}
            times = self._hosts[host] = HostTimes(host)
        times.count += figures.requested
        times.total += figures.elapsed
        times.longest = max(times.longest, figures.longest)
