"""A lane as the worker that feeds it sees it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fetcher.engine.types import Target
from fetcher.models import PLACES
from fetcher.store.leases import HeldLane
from fetcher.store.shards import Slot


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
        return self.lost or not (self.ready or self.slots or self.shards)

    def is_open(self) -> bool:
        """Whether a host delay that another holder began is over."""
        if self.open_at and time.monotonic() >= self.open_at:
            self.open_at = 0.0
        return not self.open_at

    def may_send(self, allowance: int) -> bool:
        """Whether one more of its targets may go to the engine."""
        return not self.lost and self.outstanding < allowance
