"""How long a list takes under the limits: the model behind ``--plan`` and the time left that progress shows.

A host that is asked ``n`` times, each answer taking ``t`` seconds, at most ``s`` at once and with at least ``d``
seconds between two starts, takes no less than ``(n - 1) * d + t`` and no less than ``n * t / s``. A run takes no less
than its busiest host, and no less than the time of all answers together over its concurrency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fetcher.engine.config import FetchConfig

_HOSTS = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the speed of a run."""

    concurrency: int
    per_host: int
    host_delay: float

    @classmethod
    def of(cls, config: FetchConfig) -> Limits:
        """Return a configuration's limits."""
        return cls(config.concurrency, config.per_host, config.host_delay)

    def host_seconds(self, targets: int, each: float) -> float:
        """Return the seconds that one host's targets take, ``each`` seconds an answer."""
        if targets <= 0:
            return 0.0
        at_once = min(self.per_host, self.concurrency)
        return max((targets - 1) * self.host_delay + each, targets * each / at_once)

    def run_seconds(self, longest_host: float, work: float) -> float:
        """Return the seconds of a run from those of its busiest host and of all its answers together."""
        return max(longest_host, work / self.concurrency)


@dataclass(slots=True)
class _Host:
    left: int = 0
    done: int = 0
    seconds: float = 0.0


class RemainingWork:
    """What a run still has to do, by host, for as many hosts as matter: the others are counted together.

    One thread calls ``accepted`` and ``done``; ``seconds_left`` may be asked from another.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._hosts: dict[str, _Host] = {}
        self._others = 0
        self._done = 0
        self._seconds = 0.0

    def accepted(self, hosts: Mapping[str, int]) -> None:
        """Add targets, by host."""
        for host, targets in hosts.items():
            self._hosts.setdefault(host, _Host()).left += targets
        if len(self._hosts) > 2 * _HOSTS:
            busiest = sorted(self._hosts.items(), key=lambda item: -item[1].left)
            self._others += sum(host.left for _, host in busiest[_HOSTS:])
            self._hosts = dict(busiest[:_HOSTS])

    def done(self, host: str, seconds: float, count: int = 1) -> None:
        """Note targets of a host that are done, and the seconds that they were on the network."""
        self._done += count
        self._seconds += seconds
        known = self._hosts.get(host)
        within = 0 if known is None else min(known.left, count)
        self._others = max(0, self._others - (count - within))
        if known is not None and within:
            known.left -= within
            known.done += count
            known.seconds += seconds

    def seconds_left(self) -> float | None:
        """Return the seconds that are left under the limits, None before anything is known of the answers."""
        if not self._done:
            return None
        usual = self._seconds / self._done
        longest = 0.0
        work = self._others * usual
        for host in list(self._hosts.values()):
            if host.left:
                each = host.seconds / host.done if host.done else usual
                longest = max(longest, self._limits.host_seconds(host.left, each))
                work += host.left * each
        return self._limits.run_seconds(longest, work)
