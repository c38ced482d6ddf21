"""Who may hold the slots of a run, so that hosts which do not answer leave room for those which do.

A *slot* is a turn that was taken and not released: one request in flight. A request is *stuck* once it has been in
flight for ``STUCK_SECONDS``. Every host that waits for a slot stands in one of three rows:

    QUICK   its last request was answered, and none of its requests is stuck
    FRESH   nothing is known of it, and nothing of it is in flight
    REST    all others: hosts that were silent, that never finished an answer, or whose requests are stuck

Requests of FRESH and REST hosts, and stuck ones, are *doubtful*: each may hold its slot until a timeout. The rules:

- While a QUICK host waits, doubtful requests get slots up to a fifth of all. A FRESH host gets one beyond it while few
  such requests are young: hosts that answer are found although the fifth is full of stuck requests.
- Otherwise they may hold every slot but one for each QUICK host that has work, up to a fifth of all.
- REST comes after FRESH, so retries of silent hosts come after hosts that were not tried; but up to a tenth of all
  slots goes to REST hosts in their place among FRESH ones, so that a long list of hosts never keeps a retry waiting
  until its time is up. A host of which nothing is known has one request in flight; more only while no other host
  waits, and on two thirds of the slots.
- In the first ``OPENING_SECONDS`` doubtful requests get two thirds: by then it shows which hosts are quick.

A request that holds a slot keeps it. With few slots each share is at least one slot.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

from fetcher.engine.errors import ErrorKind

T = TypeVar("T")

STUCK_SECONDS = 5.0
"""Seconds in flight after which a request counts as stuck."""
OPENING_SECONDS = 0.25
"""Seconds after the first turn for which a third of the slots is kept for hosts that answer soon."""
UNLIMITED = sys.maxsize
_DOUBTFUL_PART = 5
"""Doubtful requests hold one part in so many of the slots while a quick host waits."""
_KEPT_PART = 5
"""One part in so many of the slots is kept for quick hosts that have work."""
_AGAIN_PART = 10
"""Requests of REST hosts may hold one part in so many of the slots although a fresh host waits that came after them."""
_TRIAL_PART = 20
"""While a quick host waits, young requests of fresh hosts may always hold one part in so many of the slots."""


class Row(IntEnum):
    """Where a host stands that waits for a slot; see the module."""

    QUICK = 0
    FRESH = 1
    REST = 2


_QUICK, _REST = Row.QUICK, Row.REST
"""For each request: members of an enumeration are slow to look up."""


class Standing(IntEnum):
    """What a host's last request says of it."""

    NEW = 0
    PROVEN = 1
    """It was answered."""
    DOUBTFUL = 2
    """It had no answer, or one that was cut off by a timeout."""


@dataclass(slots=True)
class HostState(Generic[T]):
    """One host: what is ready, what is in flight, and from when on it may be asked again.

    ``row`` is where it stands while it may go, and ``place`` its number in the order of all that wait. ``stuck`` counts
    its requests that are. What waits for one that does not answer in time is counted ``apart``. A host is ``quick`` if
    its last request was answered and none is stuck.
    """

    name: str
    ready: deque[T] = field(default_factory=deque)
    active: int = 0
    delayed: int = 0
    open_at: float = 0.0
    failures: int = 0
    dead: ErrorKind | None = None
    standing: Standing = Standing.NEW
    stuck: int = 0
    row: Row | None = None
    place: int = 0
    quick: bool = False
    apart: bool = False
    timer: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of the host waits or is in flight."""
        return not self.ready and not self.active and not self.delayed

    def to_stand_in(self) -> Row:
        """Return the row for it. What waits for a dead host is not sent, so that nothing need hold it up."""
        if self.quick or self.dead is not None:
            return Row.QUICK
        return Row.FRESH if self.standing is Standing.NEW and not self.active else Row.REST


@dataclass(slots=True)
class Turn(Generic[T]):
    """An entry that may be sent now. ``dead`` is why it must not be: its host was given up.

    ``since`` is when it was taken (monotonic seconds). It is counted as doubtful, as one of a REST host (``again``),
    and as stuck, until its release.
    """

    host: str
    entry: T
    dead: ErrorKind | None
    since: float = field(default=0.0, compare=False)
    doubtful: bool = field(default=False, compare=False)
    again: bool = field(default=False, compare=False)
    stuck: bool = field(default=False, compare=False)


class Slots(Generic[T]):
    """The hosts that wait for a slot, in their rows, and the turns that hold one. ``count`` is how many there are.

    ``per_host`` is how many of them one host may hold.
    """

    def __init__(self, count: int, per_host: int) -> None:
        self.count = count
        self._per_host = per_host
        # OrderedDicts: a dict from whose front much was deleted is slow to find its first entry.
        self._rows: tuple[OrderedDict[str, HostState[T]], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._places = itertools.count()
        self._young: OrderedDict[int, Turn[T]] = OrderedDict()
        self._doubtful = 0
        self._again = 0
        self._stuck = 0
        self._quick_hosts = 0
        self._opens_at: float | None = None
        self._opening = True
        self.look_at = 0.0
        """When ``next_stuck`` is to be asked next (monotonic seconds): for each request it would cost too much."""
        self.waiting_apart = 0
        """Entries that wait for hosts which are doubtful or have a stuck request."""

    # The hosts

    def enlist(self, state: HostState[T]) -> None:
        """Add a host that may go behind those that wait."""
        state.place = next(self._places)
        state.row = row = state.to_stand_in()
        self._rows[row][state.name] = state

    def withdraw(self, state: HostState[T]) -> None:
        """Take a host out of its row, if it stands in one."""
        if state.row is not None:
            del self._rows[state.row][state.name]
            state.row = None

    def update(self, state: HostState[T], *, forgotten: bool = False) -> None:
        """Note what has changed of a host; one that waits moves to the end of its new row."""
        quick = state.standing is Standing.PROVEN and not state.stuck and not forgotten
        self._quick_hosts += quick - state.quick
        state.quick = quick
        apart = state.standing is Standing.DOUBTFUL or state.stuck > 0
        if apart is not state.apart:
            state.apart = apart
            waiting = len(state.ready) + state.delayed
            self.waiting_apart += waiting if apart else -waiting
        if state.row is not None and state.row is not (row := state.to_stand_in()):
            self.withdraw(state)
            state.row = row
            self._rows[row][state.name] = state

    def clear(self) -> None:
        """Take every host out of its row."""
        for row in self._rows:
            for state in row.values():
                state.row = None
            row.clear()
        self.waiting_apart = 0

    def rotate(self, state: HostState[T]) -> None:
        """Put a host that stays in its row behind those that wait."""
        assert state.row is not None
        state.place = next(self._places)
        self._rows[state.row].move_to_end(state.name)

    @property
    def has_quick(self) -> bool:
        """Whether a quick host waits; then ``next`` gives one."""
        return bool(self._rows[0])

    def next(self) -> HostState[T] | None:
        """Return the host whose turn it is, None where none may have a slot."""
        quick, fresh, rest = self._rows
        other = None
        if fresh and rest and self._may_go_again(_first(rest), before=_first(fresh)):
            other = _first(rest)
        elif fresh and self._may_try(quick_waits=bool(quick)):
            other = _first(fresh)
        elif rest and self._may_add(first := _first(rest), others_wait=bool(quick or fresh)):
            other = first
        if not quick:
            return other
        one = _first(quick)
        return one if other is None or one.place < other.place else other

    def _may_try(self, *, quick_waits: bool) -> bool:
        if not quick_waits:
            return self._doubtful < self._open_to_doubtful
        return self._within_part or self._doubtful - self._stuck < max(1, self.count // _TRIAL_PART)

    def _may_go_again(self, state: HostState[T], *, before: HostState[T]) -> bool:
        most = max(1, self.count // _AGAIN_PART)
        return state.place < before.place and self._again < most and self._doubtful < self._open_to_doubtful

    def _may_add(self, state: HostState[T], *, others_wait: bool) -> bool:
        if others_wait:
            return self._within_part
        limit = self._open_to_doubtful
        if state.standing is not Standing.PROVEN and state.active:
            limit = min(limit, self._two_thirds)
        return self._doubtful < limit

    @property
    def _within_part(self) -> bool:
        return self._doubtful < max(1, self.count // _DOUBTFUL_PART)

    @property
    def _two_thirds(self) -> int:
        """Two thirds of the slots, or what one host may have: where there is only one nothing is gained by less."""
        return max(self._per_host, self.count - self.count // 3)

    @property
    def _open_to_doubtful(self) -> int:
        if self._opening:
            return self._two_thirds
        return self.count - min(self._quick_hosts, self.count // _KEPT_PART)

    # The turns

    def take(self, turn: Turn[T], row: Row, now: float) -> None:
        """Count a turn that was just taken by a host in that row."""
        turn.since = now
        if row is not _QUICK:
            turn.doubtful, turn.again = True, row is _REST
            self._doubtful += 1
            self._again += turn.again
        self._young[id(turn)] = turn
        if self._opens_at is None:
            self._opens_at = now + OPENING_SECONDS

    def release(self, turn: Turn[T]) -> None:
        """Count a turn no more."""
        self._doubtful -= turn.doubtful
        self._again -= turn.again
        if turn.stuck:
            self._stuck -= 1
        else:
            del self._young[id(turn)]

    def next_stuck(self, now: float) -> Turn[T] | None:
        """Return a turn that became stuck since the last call, or None."""
        if self._opening and self._opens_at is not None:
            self._opening = now < self._opens_at
        turn = next(iter(self._young.values())) if self._young else None
        if turn is None or now - turn.since < STUCK_SECONDS:
            self.look_at = now + STUCK_SECONDS if turn is None else turn.since + STUCK_SECONDS
            if self._opening:
                self.look_at = now
            return None
        del self._young[id(turn)]
        self._doubtful += not turn.doubtful
        self._stuck += 1
        turn.doubtful = turn.stuck = True
        return turn


def _first(row: OrderedDict[str, HostState[T]]) -> HostState[T]:
    return next(iter(row.values()))
