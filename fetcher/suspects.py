"""Lanes whose holders ended one after the other without a single result: something in them may end processes.

Their targets go one at a time, each noted in the database before it is sent. A target at which a process ended goes
alone, with nothing else under way: when that process ends as well, there is no doubt which target does it, and it is
given up.
"""

from __future__ import annotations

import msgspec

from fetcher.engine.types import Outcome, Target
from fetcher.lane import Lane
from fetcher.store import leases
from fetcher.store.shards import Place
from fetcher.writer import Writer

GIVEN_UP = f"not requested any more: {leases.STRIKES} processes ended while it was being fetched"


class Suspects:
    """The careful lanes of one worker. ``alone`` says that nothing else may be sent at present."""

    def __init__(self, worker: int, writer: Writer) -> None:
        self._worker = worker
        self._writer = writer
        self._out: Place | None = None
        self.lanes: list[Lane] = []
        self.alone = False

    def add(self, lane: Lane) -> None:
        """Take a lane, known or not."""
        if lane not in self.lanes:
            self.lanes.append(lane)

    def cleared(self) -> list[Lane]:
        """Give up and return the lanes that need no care any more; those that are done with are forgotten."""
        cleared = [lane for lane in self.lanes if not lane.careful]
        self.lanes = [lane for lane in self.lanes if lane.careful and not lane.empty]
        return cleared

    async def next(self, *, idle: bool) -> Target | None:
        """Return the next target, None where one is out or there is none. ``idle``: nothing at all is under way."""
        if self._out is not None:
            return None
        lane = next((lane for lane in self.lanes if lane.ready and not lane.lost and lane.is_open()), None)
        if lane is None:
            self.alone = False
            return None
        target = lane.ready[0]
        place = target.key
        assert isinstance(place, Place)
        strikes = lane.held.strikes if place.result == lane.held.suspect else 0
        if strikes >= leases.STRIKES:
            target = msgspec.structs.replace(target, refused=GIVEN_UP)
        elif strikes:
            self.alone = True
            if not idle:
                return None
        else:
            await self._writer(leases.accuse, self._worker, lane.held.id, place.result)
        lane.ready.popleft()
        lane.sent += 1
        self._out = place
        return target

    def settle(self, outcome: Outcome) -> None:
        """Note that the engine is done with a target."""
        if self._out is not None and outcome.target.key is self._out:
            self._out = None
            self.alone = False
