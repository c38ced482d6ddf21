"""From leased lanes to the engine: targets in turn over the lanes, with a bound on what one lane may have outstanding.

The bound is what keeps a slow or paused host from filling the engine's look-ahead: it holds up its own lane only.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from fetcher.engine.client import CONDITIONAL_HEADERS
from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Headers, Outcome, Target
from fetcher.store import leases, shards
from fetcher.store.shards import Place, Slot
from fetcher.writer import Writer

_REFILL = 500
"""Targets loaded by one query."""
_PARTS = 32
"""A lane has no more than this part of the look-ahead, so that lanes planned later find room; see ``_allowance``."""


@dataclass(slots=True, eq=False)
class _Lane:
    id: int
    last_shard: int = 0
    shards: deque[int] = field(default_factory=deque)
    slots: deque[Slot] = field(default_factory=deque)
    ready: deque[Target] = field(default_factory=deque)
    outstanding: int = 0
    lost: bool = False
    listed: bool = False

    @property
    def empty(self) -> bool:
        return self.lost or not (self.ready or self.slots or self.shards)

    def may_send(self, allowance: int) -> bool:
        return not self.lost and self.outstanding < allowance


class LaneFeed:
    """The targets of one run's lanes, for one worker. Iterate over it once.

    Without ``conditional`` no target has validators.

    ``planned`` says that more may have been planned, ``end_of_plan`` that nothing will be; both wake the iteration.
    ``settle`` must be called with every outcome.
    """

    def __init__(
        self,
        run: int,
        worker: int,
        config: FetchConfig,
        writer: Writer,
        variant_of: Callable[[Headers], bytes],
        *,
        conditional: bool = True,
    ) -> None:
        self._run = run
        self._worker = worker
        self._writer = writer
        self._variant_of = variant_of
        self._conditional = conditional and not CONDITIONAL_HEADERS & {name.lower() for name, _ in config.headers}
        self._per_host = config.per_host
        self._window = config.concurrency * config.look_ahead
        self._lanes: dict[int, _Lane] = {}
        self._turn: deque[_Lane] = deque()
        self._left: dict[int, int] = {}
        self._news = asyncio.Event()
        self._stale = True
        self._ended = False

    def planned(self) -> None:
        """Say that shards may have been added."""
        self._stale = True
        self._news.set()

    def end_of_plan(self) -> None:
        """Say that no shard will be added any more."""
        self._ended = True
        self.planned()

    def settle(self, outcome: Outcome) -> None:
        """Note that the engine is done with a target, so that its lane may send another."""
        place = outcome.target.key
        assert isinstance(place, Place)
        lane = self._lanes.get(place.lane)
        if lane is not None:
            lane.outstanding -= 1
            self._news.set()

    def finished_shards(self, outcomes: Iterable[Outcome]) -> list[int]:
        """Count outcomes that are about to be recorded; return the shards of which they are the last."""
        finished = []
        for outcome in outcomes:
            place = outcome.target.key
            assert isinstance(place, Place)
            self._left[place.shard] -= 1
            if not self._left[place.shard]:
                del self._left[place.shard]
                finished.append(place.shard)
        return finished

    def drop(self, lanes: Iterable[int]) -> None:
        """Stop feeding lanes that another worker took over. May be called from the writer thread."""
        for pk in lanes:
            self._lanes[pk].lost = True

    async def __aiter__(self) -> AsyncIterator[Target]:
        while True:
            target = self._next()
            if target is not None:
                yield target
            elif self._stale:
                self._stale = False
                await self._writer(self._find)
            elif self._hungry():
                await self._writer(self._refill)
            elif self._ended and not self._turn:
                return
            else:
                self._news.clear()
                await self._news.wait()

    def _allowance(self) -> int:
        """How many targets of one lane may be with the engine at once.

        An equal share of the look-ahead, since together the lanes must never fill it: then one paused host would hold
        up all. With few lanes it is less than the equal share, for the lanes that are still to come, but as much as one
        host can use.
        """
        lanes = len(self._turn)
        return max(1, self._window // max(lanes, _PARTS), min(self._per_host, self._window // (lanes + 1)))

    def _next(self) -> Target | None:
        allowance = self._allowance()
        for _ in range(len(self._turn)):
            lane = self._turn.popleft()
            if lane.empty:
                lane.listed = False
                continue
            self._turn.append(lane)
            if lane.ready and lane.may_send(allowance):
                lane.outstanding += 1
                return lane.ready.popleft()
        return None

    def _hungry(self) -> list[_Lane]:
        allowance = self._allowance()
        return [
            lane for lane in self._turn if not lane.ready and (lane.slots or lane.shards) and lane.may_send(allowance)
        ]

    # In the writer thread. The iteration waits for these calls, so nothing else touches the lanes meanwhile but
    # ``settle`` and ``drop``, which they do not depend on.

    def _find(self) -> None:
        held = leases.lease_lanes(self._run, self._worker)
        for pk in held:
            if pk not in self._lanes:
                self._lanes[pk] = _Lane(pk)
        after = {pk: lane.last_shard for pk, lane in self._lanes.items()}
        for pk, shard in shards.open_shards(held, after=after):
            lane = self._lanes[pk]
            lane.shards.append(shard)
            lane.last_shard = shard
            if not lane.listed:
                lane.listed = True
                self._turn.append(lane)
        # In the same call: while planning goes on there are new shards after every call, and they must not keep those
        # that are known from being sent.
        self._refill()

    def _refill(self) -> None:
        hungry = self._hungry()
        if not hungry:  # a batch recorded in the meantime found their lanes lost
            return
        share = max(1, _REFILL // len(hungry))
        wanted: list[Slot] = []
        for lane in hungry[:_REFILL]:
            while not lane.slots and lane.shards:
                shard = lane.shards[0]
                slots = shards.open_slots(shard)
                if slots:
                    self._left[shard] = len(slots)
                    lane.slots.extend(slots)
                else:
                    shards.mark_done([shard])
                lane.shards.popleft()
            wanted += itertools.islice(lane.slots, share)
        # Shards and slots are taken once they are loaded: where the database fails, the same call is made again.
        for target in shards.load_targets(self._run, wanted, self._variant_of, conditional=self._conditional):
            place = target.key
            assert isinstance(place, Place)
            lane = self._lanes[place.lane]
            lane.slots.popleft()
            lane.ready.append(target)
