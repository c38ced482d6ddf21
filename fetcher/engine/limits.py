"""Whose turn it is: per-host slots, host delay, host pauses and dead hosts.

``HostQueues`` is a plain data structure. It holds entries that want to be sent, hands them out in turn over the
hosts, and never waits itself: every method takes the time (monotonic seconds) and ``wake_at`` says when asking again
could give something new. What waits here (for a slot, a delay, a pause, a backoff) therefore holds nothing.

Hosts that answer go before hosts that do not, and keep a part of the slots: ``slots`` has the rules.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from typing import Generic, TypeVar

from fetcher.engine.errors import ErrorKind
from fetcher.engine.slots import UNLIMITED, HostState, Slots, Standing, Turn

__all__ = ["HostQueues", "Turn"]

T = TypeVar("T")

REMEMBERED_HOSTS = 10_000
"""Idle hosts whose failures are remembered, and as many whose last request was answered; the longest unused are
forgotten first."""
REMEMBERED_PAUSES = 20_000
"""Hosts of which nothing was to be sent yet and whose pauses are remembered; those that end first are forgotten first,
half of them at a time."""


class HostQueues(Generic[T]):
    """Entries waiting for their turn, by host.

    ``per_host`` bounds the turns taken and not yet released for one host, ``host_delay`` is the least number of seconds
    between two turns of one host, ``host_failures`` the failures in a row after which a host is dead (0: never).
    ``slots`` is how many turns may be taken and not released in all: the caller keeps to it, and here it is shared out.
    """

    def __init__(
        self, *, per_host: int, host_delay: float = 0.0, host_failures: int = 0, slots: int = UNLIMITED
    ) -> None:
        self._per_host = per_host
        self._host_delay = host_delay
        self._host_failures = host_failures
        self._hosts: dict[str, HostState[T]] = {}
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._pauses: dict[str, float] = {}
        self._proven: OrderedDict[str, None] = OrderedDict()
        self._slots: Slots[T] = Slots(slots, per_host)
        self._timers: list[tuple[float, int, str, T | None]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        """Count the hosts known."""
        return len(self._hosts)

    def push(self, host: str, entry: T, *, now: float, at: float | None = None, front: bool = False) -> None:
        """Add an entry; ``at`` keeps it back until then, ``front`` lets it go before the host's others.

        An entry that was kept back goes before the others too: it has waited longest.
        """
        state = self._state(host)
        self._slots.waiting_apart += state.apart
        if at is not None and at > now and state.dead is None:
            state.delayed += 1
            heapq.heappush(self._timers, (at, next(self._order), host, entry))
            return
        if front:
            state.ready.appendleft(entry)
        else:
            state.ready.append(entry)
        self._offer(host, state, now)

    def pop(self, now: float) -> Turn[T] | None:
        """Take the next turn, or return None where nobody may go now. ``release`` gives the slot back.

        Ask ``wake_at`` again after either.
        """
        self._run_timers(now)
        if now >= self._slots.look_at:
            self.age(now)
        while (following := self._slots.next()) is not None:
            state, host = following, following.name
            row = state.row
            assert row is not None
            if not self._may_go(state, now):
                self._slots.withdraw(state)
                self._offer(host, state, now)
                continue
            turn = Turn(host, state.ready.popleft(), state.dead)
            state.active += 1
            self._slots.waiting_apart -= state.apart
            self._slots.take(turn, row, now)
            if self._host_delay and state.dead is None:
                state.open_at = max(state.open_at, now + self._host_delay)
            if not turn.doubtful and self._may_go(state, now):
                self._slots.rotate(state)
            else:
                self._slots.withdraw(state)
                self._offer(host, state, now)
            return turn
        return None

    def age(self, now: float) -> None:
        """Note which turns have become stuck; ``pop`` does so as well."""
        while (turn := self._slots.next_stuck(now)) is not None:
            state = self._hosts[turn.host]
            state.stuck += 1
            self._slots.update(state)

    @property
    def waiting_apart(self) -> int:
        """How many entries wait for hosts that do not answer, or not in time."""
        return self._slots.waiting_apart

    def drain(self, now: float) -> list[tuple[T, float | None]]:
        """Take out all entries that wait, each with the time until which it was kept back, and return them."""
        self._run_timers(now)
        entries: list[tuple[T, float | None]] = [(entry, at) for at, _, _, entry in self._timers if entry is not None]
        self._timers = [timer for timer in self._timers if timer[3] is None]
        heapq.heapify(self._timers)
        self._slots.clear()
        for host, state in list(self._hosts.items()):
            entries += [(entry, None) for entry in state.ready]
            state.ready.clear()
            state.delayed = 0
            self._forget_if_idle(host, state, now)
        return entries

    def has_turn(self, now: float) -> bool:
        """Whether ``pop`` would give a turn (it may say yes for a host that has just become busy)."""
        self._run_timers(now)
        return self._slots.has_quick or self._slots.next() is not None

    def share(self, slots: int) -> None:
        """Share out so many slots from now on."""
        self._slots.count = slots

    def release(self, turn: Turn[T], *, now: float) -> None:
        """Give back the slot of a turn."""
        host = turn.host
        state = self._hosts[host]
        state.active -= 1
        state.stuck -= turn.stuck
        self._slots.release(turn)
        if not state.quick:
            self._slots.update(state)
        self._offer(host, state, now)
        self._forget_if_idle(host, state, now)

    def pause(self, host: str, *, until: float, now: float) -> None:
        """Ask nothing more of a host until then; an earlier end never shortens a pause.

        The host need not be known: then it is a word or two that is kept, and of so many hosts only.
        """
        if host not in self._hosts:
            self._pauses[host] = max(until, self._pauses.get(host, until))
            if len(self._pauses) > REMEMBERED_PAUSES:
                last = heapq.nlargest(REMEMBERED_PAUSES // 2, self._pauses.items(), key=lambda pause: pause[1])
                self._pauses = dict(last)
            return
        state = self._state(host)
        state.open_at = max(state.open_at, until)
        self._forget_if_idle(host, state, now)

    def closed_for(self, host: str, now: float) -> float:
        """Return the seconds for which a delay or a pause keeps a host from being asked."""
        state = self._hosts.get(host)
        open_at = self._pauses.get(host, 0.0) if state is None else state.open_at
        return max(0.0, open_at - now)

    def answered(self, host: str) -> None:
        """Note an answer. As ``failed`` and ``hung``, called by the holder of a turn of the host."""
        state = self._state(host)
        state.failures = 0
        state.dead = None
        if state.standing is not Standing.PROVEN:
            state.standing = Standing.PROVEN
            self._slots.update(state)

    def hung(self, host: str) -> None:
        """Note that a timeout cut an answer off: the host must prove itself again, although it is not dead."""
        state = self._state(host)
        state.standing = Standing.DOUBTFUL
        self._slots.update(state)

    def failed(self, host: str, kind: ErrorKind, *, now: float) -> None:
        """Note a failure without any answer; enough of them in a row and the host is dead.

        What was kept back for a dead host is kept no longer.
        """
        state = self._state(host)
        state.failures += 1
        state.standing = Standing.DOUBTFUL
        self._slots.update(state)
        if self._host_failures and state.failures >= self._host_failures:
            state.dead = kind
            self._end_delays(host, state)
            self._slots.update(state)
            self._offer(host, state, now)

    def is_dead(self, host: str) -> bool:
        """Whether a host was given up."""
        state = self._hosts.get(host)
        return state is not None and state.dead is not None

    def wake_at(self) -> float | None:
        """When asking again could give something new without any other call, or None."""
        return self._timers[0][0] if self._timers else None

    def _state(self, host: str) -> HostState[T]:
        state = self._hosts.get(host)
        if state is None:
            state = self._hosts[host] = HostState(host, open_at=self._pauses.pop(host, 0.0))
            if host in self._proven:
                del self._proven[host]
                state.standing = Standing.PROVEN
                self._slots.update(state)
        elif host in self._remembered:
            del self._remembered[host]
        return state

    def _may_go(self, state: HostState[T], now: float) -> bool:
        if not state.ready:
            return False
        return state.dead is not None or (state.active < self._per_host and state.open_at <= now)

    def _offer(self, host: str, state: HostState[T], now: float) -> None:
        """Put the host in the row if it may go, or set the timer for when it may."""
        if state.row is not None or not state.ready:
            return
        if self._may_go(state, now):
            self._slots.enlist(state)
        elif state.open_at > now:
            self._set_timer(host, state)

    def _set_timer(self, host: str, state: HostState[T]) -> None:
        if state.timer is None or state.timer < state.open_at:
            state.timer = state.open_at
            heapq.heappush(self._timers, (state.open_at, next(self._order), host, None))

    def _end_delays(self, host: str, state: HostState[T]) -> None:
        if state.delayed:
            state.ready.extend(entry for _, _, name, entry in self._timers if name == host and entry is not None)
            self._timers = [timer for timer in self._timers if timer[2] != host or timer[3] is None]
            heapq.heapify(self._timers)
            state.delayed = 0

    def _run_timers(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            at, _, host, entry = heapq.heappop(self._timers)
            state = self._hosts.get(host)
            if state is None:  # a timer of before its last pause; the host was forgotten since
                continue
            if entry is not None:
                state.delayed -= 1
                state.ready.appendleft(entry)
            elif state.timer == at:
                state.timer = None
            self._offer(host, state, now)
            self._forget_if_idle(host, state, now)

    def _forget_if_idle(self, host: str, state: HostState[T], now: float) -> None:
        if not state.idle:
            return
        if state.open_at > now:  # until then it must be remembered, however many hosts there are
            self._set_timer(host, state)
        elif state.standing is Standing.DOUBTFUL:
            self._remembered[host] = None
            while len(self._remembered) > REMEMBERED_HOSTS:
                oldest, _ = self._remembered.popitem(last=False)
                del self._hosts[oldest]
        else:
            del self._hosts[host]
            if state.standing is Standing.PROVEN:
                self._slots.update(state, forgotten=True)
                self._proven[host] = None
                if len(self._proven) > REMEMBERED_HOSTS:
                    self._proven.popitem(last=False)
