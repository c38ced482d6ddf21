"""A lane as the worker that feeds it sees it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Outcome, Target
from fetcher.models import PLACES
from fetcher.store.leases import HeldLane
from fetcher.store.shards import Slot

PARKED_TARGETS = 100
"""Targets of one lane that are put aside at most, so that those behind them have their turn."""
_TRIAL_PART = 4
"""A host that has not answered has one part in so many of what its lane may have with the engine."""


@dataclass(slots=True, eq=False)
class HostShare:
    """A host of a lane of which something is with the engine (``out`` targets) or put aside (``parked``).

    It is ``proven`` while its last outcome was an answer.
    """

    out: int = 0
    proven: bool = False
    parked: deque[Target] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Lane:
    """A lane that this worker holds, or held: what is known of it here.

    ``sent`` counts targets that were handed to the engine, ``settled`` those that the engine is done with and ``kept``
    those whose outcome was recorded, or thrown away since the lane was lost. The event loop's thread counts the first
    two and the writer's the third, so that none is counted by both. A lane that is ``leaving`` is fed no more: another
    worker is to have it once nothing of it is under way. One is ``known`` once it was looked through. Nothing of it is
    sent before ``open_at`` (monotonic seconds); ``asked`` says that something was.
    """

    held: HeldLane
    last_shard: int = 0
    shards: deque[int] = field(default_factory=deque)
    slots: deque[Slot] = field(default_factory=deque)
    ready: deque[Target] = field(default_factory=deque)
    left: dict[int, int] = field(default_factory=dict)
    sent: int = 0
    settled: int = 0
    kept: int = 0
    lost: bool = False
    leaving: bool = False
    listed: bool = False
    careful: bool = False
    known: bool = False
    open_at: float = 0.0
    asked: bool = False
    hosts: dict[str, HostShare] = field(default_factory=dict)
    freed: deque[str] = field(default_factory=deque)
    parked: int = 0

    def add_shard(self, shard: int) -> None:
        """Take a shard that was not known; the one of a suspect goes first."""
        self.last_shard = max(self.last_shard, shard)
        if self.held.suspect is not None and self.held.suspect // PLACES == shard:
            self.shards.appendleft(shard)
        else:
            self.shards.append(shard)

    def open_shard(self, shard: int, slots: Sequence[Slot]) -> None:
        """Take the targets of a shard that are open; a suspect goes first.

        As long as it is not known whether processes end at it, nobody else may be noted in its place.
        """
        self.left[shard] = len(slots)
        self.slots.extend(sorted(slots, key=lambda slot: slot.result != self.held.suspect))

    @property
    def outstanding(self) -> int:
        """Targets that are with the engine."""
        return self.sent - self.settled

    @property
    def under_way(self) -> int:
        """Targets that are with the engine or on their way to the database."""
        return self.sent - self.kept

    @property
    def empty(self) -> bool:
        """Whether there is nothing more to send."""
        return self.lost or not (self.ready or self.parked or self.slots or self.shards)

    def is_open(self) -> bool:
        """Whether a host delay that another holder began is over."""
        if self.open_at and time.monotonic() >= self.open_at:
            self.open_at = 0.0
        return not self.open_at

    def take(self, allowance: int) -> Target | None:
        """Return the next target for the engine, None where there is none before more are loaded.

        Hosts that do not answer have a part of the ``allowance`` only, so that they do not hold up the lane's others.
        What is too much for them is put aside; it goes all the same once nothing else of the lane could.
        """
        most = max(1, allowance // _TRIAL_PART)
        while self.freed:
            share = self.hosts.get(self.freed[0])
            if share is not None and share.parked and (share.proven or share.out < most):
                return self._unpark(share)
            self.freed.popleft()
        while self.ready and self.parked < PARKED_TARGETS:
            target = self.ready.popleft()
            share = self.hosts.get(target.host)
            if share is None:
                share = self.hosts[target.host] = HostShare()
            if not share.parked and (share.proven or share.out < most):
                return self._hand_out(target, share)
            share.parked.append(target)
            self.parked += 1
        if self.parked >= PARKED_TARGETS or (self.parked and not (self.slots or self.shards)):
            return self._unpark(next(share for share in self.hosts.values() if share.parked))
        return None

    def settle(self, outcome: Outcome) -> None:
        """Note that the engine is done with a target."""
        self.settled += 1
        answered = outcome.http_status is not None and outcome.error_kind is not ErrorKind.TIMEOUT
        self._take_back(outcome.target.host, proven=answered)

    def give_back(self, target: Target) -> None:
        """Note that the engine has no outcome of a target."""
        self.sent -= 1
        self._take_back(target.host)

    def _unpark(self, share: HostShare) -> Target:
        self.parked -= 1
        return self._hand_out(share.parked.popleft(), share)

    def _hand_out(self, target: Target, share: HostShare) -> Target:
        share.out += 1
        self.sent += 1
        return target

    def _take_back(self, host: str, *, proven: bool | None = None) -> None:
        share = self.hosts.get(host)
        if share is None:  # one of a careful lane, which go one at a time
            return
        share.out -= 1
        if proven is not None:
            share.proven = proven
        if share.parked:
            self.freed.append(host)
        elif not share.out:
            del self.hosts[host]

    def may_send(self, allowance: int) -> bool:
        """Whether one more of its targets may go to the engine."""
        return not self.lost and self.outstanding < allowance
