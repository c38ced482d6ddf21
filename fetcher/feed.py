"""From leased lanes to the engine: targets in turn over the lanes, with a bound on what one lane may have outstanding.

The bound is what keeps a slow or paused host from filling the engine's look-ahead: it holds up its own lane only.

While it goes on the feed looks again and again which lanes there are to take, because a worker is gone or another has
more than its share, and gives back what is more than its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import RequestHeaders
from fetcher.engine.request_headers import CONDITIONAL_HEADERS
from fetcher.engine.types import Outcome, Target, Tried
from fetcher.lane import Lane
from fetcher.store import leases, shards, waiting
from fetcher.store.leases import HeldLane, Watch
from fetcher.store.recordable import place_of
from fetcher.store.shards import Place
from fetcher.suspects import Suspects
from fetcher.writer import Writer

LOOK = 0.5
"""Seconds between two looks at which lanes are free."""
_REFILL = 2_000
"""Targets loaded by one call, which waits for its turn behind the batches that are recorded."""
_PARTS = 32
"""A lane has no more than this part of the look-ahead, so that lanes planned later find room; see ``_allowance``."""


class LaneFeed:
    """The targets of one run's lanes, for one worker. Iterate over it once.

    Without ``conditional`` no target has validators. ``sharers`` hears how many workers, this one included, share the
    lanes. With ``patience`` the iteration ends when there was nothing to send for so many seconds although lanes are
    left, because others that are alive have them and none is due to this one; without it they are waited for, since a
    worker may end. ``watch`` is what was seen of other workers before.

    ``planned`` says that more may have been planned, ``end_of_plan`` that nothing will be; both wake the iteration.
    ``settle`` must be called with every outcome, and ``recorded`` or ``drop`` once it is known what became of it.
    """

    def __init__(
        self,
        run: int,
        worker: int,
        config: FetchConfig,
        writer: Writer,
        variant_of: Callable[[RequestHeaders], bytes],
        *,
        conditional: bool = True,
        sharers: Callable[[int], None] = lambda count: None,
        patience: float | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._run = run
        self._worker = worker
        self._writer = writer
        self._variant_of = variant_of
        self._conditional = conditional and not CONDITIONAL_HEADERS & {name.lower() for name, _ in config.headers}
        self._sharers = sharers
        self._patience = patience
        self._per_host = config.per_host
        self._host_delay = config.host_delay
        self._window = config.concurrency * config.look_ahead
        self._watch = watch or Watch()
        self._lanes: dict[int, Lane] = {}
        self._tried: dict[int, Tried] = {}
        self._put_down: list[tuple[Place, Tried]] = []
        self._turn: deque[Lane] = deque()
        self._suspects = Suspects(worker, writer)
        self._elsewhere = 0
        self._fellows = 0
        self._doubtful = False
        self._news = asyncio.Event()
        self._stale = True
        self._due = False
        self._ended = False
        self._complete = False

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
        lane = self._lanes[place_of(outcome).lane]
        lane.settle(outcome)
        lane.asked = True
        self._suspects.settle(outcome)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Target]:
        ticking = asyncio.create_task(self._tick())
        clock = asyncio.get_running_loop().time
        busy_at = clock()
        try:
            while True:
                if self._due:
                    self._due = False
                    await self._look_around()
                target = None if self._suspects.alone else self._next()
                if target is None and self._suspects.lanes:
                    target = await self._next_suspect()
                if target is not None:
                    yield target
                    busy_at = clock()
                elif self._stale:
                    self._stale = False
                    await self._look_around()
                elif self._hungry():
                    await self._writer(self._refill)
                elif self._is_over(clock() - busy_at):
                    return
                else:
                    if not self._idle:
                        busy_at = clock()
                    self._news.clear()
                    await self._news.wait()
        finally:
            ticking.cancel()

    async def _look_around(self) -> None:
        await self._writer(self._look)
        # More workers than lanes that they could have: the others send nothing.
        self._sharers(1 + min(self._fellows, self._elsewhere))

    def _is_over(self, idle: float) -> bool:
        """Whether nothing will come any more, or nothing came for too many seconds."""
        if self._ended and not self._elsewhere and all(lane.empty for lane in self._lanes.values()):
            return True
        return self._patience is not None and self._idle and idle >= self._patience

    @property
    def _idle(self) -> bool:
        """Whether this worker has nothing left of its own, and nothing to expect.

        Lanes that are its part are given back by others as soon as nothing of them is under way, which may take long.
        """
        expecting = self._doubtful or self._elsewhere > self._fellows
        return not expecting and not any(lane.under_way or not lane.empty for lane in self._lanes.values())

    def left(self, target: Target, tried: Tried | None) -> None:
        """Take back a target that the engine was given and has no outcome of."""
        place = target.key
        assert isinstance(place, Place)
        lane = self._lanes[place.lane]
        lane.give_back(target)
        if tried is not None and (target.tried is None or len(tried.attempts) > len(target.tried.attempts)):
            lane.asked = True
        if tried is not None:
            self._put_down.append((place, tried))

    def release_idle(self) -> None:
        """Give up the lanes of which nothing is under way, once the iteration has ended. In the writer thread.

        What was tried of targets that wait is saved for whoever has their lanes next.
        """
        put_down = self._put_down.copy()  # the event loop's thread may add to it
        waiting.put_down(
            [(place.result, place.lane, tried) for place, tried in put_down if not self._lanes[place.lane].lost]
        )
        del self._put_down[: len(put_down)]  # only now, for a call that failed is made again
        going = [lane for lane in self._lanes.values() if not lane.lost and not lane.under_way]
        self._let_go(going)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._due = True
            self._news.set()

    async def _next_suspect(self) -> Target | None:
        for lane in self._suspects.cleared():
            self._list(lane)
        return await self._suspects.next(idle=all(not lane.outstanding for lane in self._lanes.values()))

    def _allowance(self) -> int:
        """How many targets of one lane may be with the engine at once.

        An equal share of the look-ahead, since together the lanes must never fill it: then one paused host would hold
        up all. With few lanes it is less than the equal share, for the lanes that are still to come, but as much as one
        host can use while as much again waits for its turn: whoever is done with one need not wait for the next.
        """
        lanes = len(self._turn)
        return max(1, self._window // max(lanes, _PARTS), min(2 * self._per_host, self._window // (lanes + 1)))

    def _next(self) -> Target | None:
        allowance = self._allowance()
        for _ in range(len(self._turn)):
            lane = self._turn.popleft()
            if lane.empty or lane.careful or lane.leaving:
                lane.listed = False
                continue
            self._turn.append(lane)
            if lane.may_send(allowance) and lane.is_open() and (target := lane.take(allowance)) is not None:
                return target
        return None

    def _hungry(self) -> list[Lane]:
        allowance = self._allowance()
        return [
            lane
            for lane in (*self._turn, *self._suspects.lanes)
            if not lane.ready and (lane.slots or lane.shards) and lane.may_send(allowance)
        ]

    # In the writer thread. The iteration waits for the first two, so nothing else touches the lanes meanwhile but
    # ``settle``, which they do not depend on.

    def _look(self) -> None:
        """See which lanes and shards there are now."""
        holding = leases.hold_lanes(self._run, self._worker, self._watch)
        self._elsewhere, self._fellows = max(0, holding.elsewhere), holding.fellows
        self._doubtful = holding.doubtful
        held = {lane.id: lane for lane in holding.lanes}
        for pk in self._give_back(held, len(held) - holding.share):
            del held[pk]
            self._elsewhere += 1
        for pk, row in held.items():
            lane = self._lanes.get(pk)
            if lane is None or (lane.lost and not lane.under_way):
                self._lanes[pk] = Lane(row, careful=row.careful, open_at=self._open_at(row))
            elif lane.lost:  # taken again before the outcomes of the first time are in: not yet
                self._elsewhere += 1
        for pk, lane in self._lanes.items():
            if pk not in held and not lane.empty:  # taken over, or given back by a call whose answer was lost
                lane.lost = True
        self._forget(held)
        fresh = [pk for pk in held if not self._lanes[pk].known]
        self._tried.update(waiting.of_lanes(fresh))
        for pk in fresh:
            self._lanes[pk].known = True
        self._find_shards([lane for pk in held if not (lane := self._lanes[pk]).lost])
        # In the same call: while planning goes on there are new shards after every call, and they must not keep those
        # that are known from being sent.
        self._refill()

    def _open_at(self, row: HeldLane) -> float:
        """Return from when on another's host delay is over (monotonic); a clock that was set makes it no longer."""
        if not self._host_delay or row.asked is None:
            return 0.0
        return time.monotonic() + self._host_delay - max(0.0, row.asked)

    def _find_shards(self, lanes: list[Lane]) -> None:
        ended = self._ended
        # Once nothing is planned any more, only lanes that were just taken have shards that are not known.
        known = {lane.held.id: lane for lane in lanes if not self._complete or not lane.last_shard}
        after = {pk: lane.last_shard for pk, lane in known.items()}
        for pk, shard in shards.open_shards(list(known), after=after):
            known[pk].add_shard(shard)
            self._list(known[pk])
        self._complete = ended

    def _list(self, lane: Lane) -> None:
        if lane.careful:
            self._suspects.add(lane)
        elif not lane.listed and not lane.leaving:
            lane.listed = True
            self._turn.append(lane)

    def _give_back(self, held: dict[int, HeldLane], surplus: int) -> list[int]:
        """Give up lanes beyond the share, and return which.

        Of a lane that is given up nothing may be under way, so some are fed no more until what they have out is saved:
        those first that have least.
        """
        lanes = [lane for pk in held if (lane := self._lanes.get(pk)) is not None and not lane.lost]
        leaving = [lane for lane in lanes if lane.leaving]
        for lane in leaving[max(0, surplus) :]:  # the share has grown since
            lane.leaving = False
            self._list(lane)
        staying = [lane for lane in lanes if not lane.leaving and not lane.empty]
        for lane in sorted(staying, key=lambda lane: lane.under_way)[: max(0, surplus - len(leaving))]:
            lane.leaving = True
        going = [lane for lane in lanes if lane.leaving and not lane.under_way]
        self._let_go(going)
        return [lane.held.id for lane in going]

    def _let_go(self, going: Sequence[Lane]) -> None:
        if not going:
            return
        asked = [lane.held.id for lane in going if lane.asked] if self._host_delay else []
        leases.give_back(self._worker, [lane.held.id for lane in going], asked=asked)
        for lane in going:
            lane.lost = True

    def _forget(self, held: dict[int, HeldLane]) -> None:
        """Drop what is kept of lanes that are done with, or somebody else's by now."""
        for pk in [pk for pk, lane in self._lanes.items() if lane.lost and not lane.under_way and pk not in held]:
            del self._lanes[pk]

    def _refill(self) -> None:
        hungry = self._hungry()
        if not hungry:  # a batch recorded in the meantime found their lanes lost
            return
        share, hungry = max(1, _REFILL // len(hungry)), hungry[:_REFILL]
        while closed := [lane for lane in hungry if not lane.slots and lane.shards]:
            opened = shards.open_slots([lane.shards[0] for lane in closed])
            shards.mark_done([shard for shard, slots in opened.items() if not slots])
            for lane in closed:
                shard = lane.shards[0]
                if slots := opened[shard]:
                    lane.open_shard(shard, slots)
                lane.shards.popleft()
        wanted = [slot for lane in hungry for slot in itertools.islice(lane.slots, share)]
        for target in shards.load_targets(self._run, wanted, self._variant_of, conditional=self._conditional):
            place = target.key
            assert isinstance(place, Place)
            lane = self._lanes[place.lane]
            lane.slots.popleft()
            lane.ready.append(self._taken_up(target, place))

    def _taken_up(self, target: Target, place: Place) -> Target:
        tried = self._tried.pop(place.result, None)
        return target if tried is None else msgspec.structs.replace(target, tried=tried)

    def finished_shards(self, outcomes: Iterable[Outcome]) -> list[int]:
        """Return the shards of which these outcomes, which are about to be recorded, are the last."""
        counts: dict[tuple[int, int], int] = {}
        for outcome in outcomes:
            place = place_of(outcome)
            counts[place.lane, place.shard] = counts.get((place.lane, place.shard), 0) + 1
        return [shard for (lane, shard), count in counts.items() if self._lanes[lane].left.get(shard) == count]

    def recorded(self, outcomes: Iterable[Outcome]) -> None:
        """Note that these outcomes are saved."""
        for outcome in outcomes:
            place = place_of(outcome)
            lane = self._lanes[place.lane]
            lane.kept += 1
            lane.left[place.shard] -= 1
            if not lane.left[place.shard]:
                del lane.left[place.shard]
                lane.careful = False

    def drop(self, outcomes: Iterable[Outcome], lost: Iterable[int]) -> None:
        """Note that these outcomes are thrown away, and stop feeding their lanes: another worker has them."""
        self._stale = True  # they are elsewhere now, and may come back
        for pk in lost:
            self._lanes[pk].lost = True
        for outcome in outcomes:
            self._lanes[place_of(outcome).lane].kept += 1
