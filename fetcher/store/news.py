"""A run's results as they are saved, by whoever saves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import F, Max, Min, Sum

from fetcher.models import PLACES, Lane, Result, Shard

_AHEAD = 8
"""Shards of a lane that are looked up at first; twice as many each time that nothing new is in them."""
_MOST = 512


@dataclass(slots=True)
class _LaneNews:
    """How far a lane's ``number`` of results that are told goes: all of the shards before ``first``.

    ``told`` has what is told of later ones, None where that is all.
    """

    first: int = 0
    number: int = 0
    told: dict[int, set[int] | None] = field(default_factory=dict)


class NewResults:
    """Finds each result of a run once, lane by lane.

    A lane's counter says whether there is anything new, and its shards are done in about their order. So what is
    remembered are the results of shards that have begun and are not done, however long the run is.
    """

    def __init__(self, run: int) -> None:
        self._run = run
        self._lanes: dict[int, _LaneNews] = {}

    def pass_over(self) -> None:
        """Take what is saved so far for told."""
        shards = Shard.objects.filter(run=self._run)
        for lane in list(Lane.objects.filter(run=self._run).values_list("id", flat=True)):
            first = shards.filter(lane=lane, done_at=None).aggregate(first=Min("id"))["first"]
            if first is None:
                first = (shards.filter(lane=lane).aggregate(last=Max("id"))["last"] or 0) + 1
            done = shards.filter(lane=lane, id__lt=first).aggregate(size=Sum("size"))["size"] or 0
            self._lanes[lane] = _LaneNews(first, done)
        for _ in self.look():
            pass

    def look(self) -> Iterator[list[int]]:
        """Yield the ids of results that are new, some at a time. They count as told once the next are asked for."""
        recorded = F("succeeded") + F("not_modified") + F("failed") + F("skipped")
        lanes = Lane.objects.filter(run=self._run).order_by("id").annotate(recorded=recorded)
        for pk, number in list(lanes.values_list("id", "recorded")):
            lane = self._lanes.setdefault(pk, _LaneNews())
            if lane.number < number:
                yield from self._of_lane(pk, lane, number)

    def _of_lane(self, pk: int, lane: _LaneNews, number: int) -> Iterator[list[int]]:
        after, width, in_order = lane.first, _AHEAD, True
        shards = Shard.objects.filter(run=self._run, lane=pk).order_by("id")
        while window := list(shards.filter(id__gte=after).values_list("id", "size")[:width]):
            for shard, size in window:
                if lane.told.get(shard, ()) is not None:
                    yield from self._of_shard(shard, size, lane)
                if in_order := in_order and lane.told.get(shard, ()) is None:
                    lane.first = shard + 1
                    del lane.told[shard]
                if lane.number >= number:
                    return
            after, width = window[-1][0] + 1, min(2 * width, _MOST)

    def _of_shard(self, shard: int, size: int, lane: _LaneNews) -> Iterator[list[int]]:
        told = lane.told.get(shard) or set()
        within = Result.objects.filter(run=self._run, id__gte=shard * PLACES, id__lt=(shard + 1) * PLACES)
        new = set(within.values_list("id", flat=True)) - told
        if new:
            yield sorted(new)
            lane.number += len(new)
            told |= new
            lane.told[shard] = told if len(told) < size else None
