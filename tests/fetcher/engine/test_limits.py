"""Whose turn it is: slots, delays, pauses and dead hosts, in any order of events."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fetcher.engine import limits
from fetcher.engine.errors import ErrorKind
from fetcher.engine.limits import HostQueues, Turn

HOSTS = ["a:80", "b:80", "c:80"]


def taken(queues: HostQueues[int], now: float) -> list[Turn[int]]:
    """Take every turn that there is."""
    turns = []
    while (turn := queues.pop(now)) is not None:
        turns.append(turn)
    return turns


def entries(turns: list[Turn[int]]) -> list[int]:
    return [turn.entry for turn in turns]


class TestTurns:
    def test_hosts_take_turns(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        for entry, host in enumerate(["a", "a", "a", "b", "b", "c"]):
            queues.push(host, entry, now=0)

        assert entries(taken(queues, 0)) == [0, 3, 5, 1, 4, 2]

    def test_a_host_has_no_more_turns_than_slots(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=2)
        for entry in range(4):
            queues.push("a", entry, now=0)

        turns = taken(queues, 0)
        assert entries(turns) == [0, 1]
        queues.release(turns[0], now=0)
        assert entries(taken(queues, 0)) == [2]

    def test_an_entry_in_front_goes_before_the_hosts_others(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.push("a", 1, now=0)
        queues.push("a", 2, now=0, front=True)

        assert entries(taken(queues, 0)) == [2, 1]

    def test_an_entry_kept_back_comes_at_its_time_and_before_the_others(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1)
        queues.push("a", 1, now=0, at=5)
        queues.push("a", 2, now=0)
        queues.push("a", 3, now=0)

        (turn,) = taken(queues, 4.9)
        assert turn.entry == 2
        queues.release(turn, now=5)
        assert entries(taken(queues, 5)) == [1]

    def test_an_entry_whose_time_has_come_already_is_not_kept_back(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1)
        queues.push("a", 1, now=5, at=5)

        assert entries(taken(queues, 5)) == [1]

    def test_has_turn_says_whether_there_is_one(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1)
        assert not queues.has_turn(0)
        queues.push("a", 1, now=0, at=1)
        assert not queues.has_turn(0.5)
        assert queues.has_turn(1)


class TestDelayAndPause:
    def test_turns_of_one_host_are_a_host_delay_apart(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8, host_delay=2)
        for entry in range(3):
            queues.push("a", entry, now=0)

        assert entries(taken(queues, 0)) == [0]
        assert queues.wake_at() == 2
        assert entries(taken(queues, 1.9)) == []
        assert entries(taken(queues, 2)) == [1]
        assert queues.wake_at() == 4

    def test_a_delay_counts_although_nothing_of_the_host_was_left(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8, host_delay=2)
        queues.push("a", 0, now=0)
        (turn,) = taken(queues, 0)
        queues.release(turn, now=0.5)
        queues.push("a", 1, now=1)

        assert entries(taken(queues, 1.9)) == []
        assert entries(taken(queues, 2)) == [1]

    def test_a_paused_host_holds_up_no_other(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.push("a", 0, now=0)
        taken(queues, 0)
        queues.pause("a", until=10, now=0)
        queues.push("a", 1, now=0)
        queues.push("b", 2, now=0)

        assert entries(taken(queues, 9.9)) == [2]
        assert queues.wake_at() == 10
        assert entries(taken(queues, 10)) == [1]

    def test_a_pause_holds_for_a_host_whose_turn_had_come(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.push("a", 0, now=0)
        queues.push("a", 1, now=0)
        assert queues.pop(0) is not None
        queues.pause("a", until=10, now=0)

        assert queues.pop(1) is None
        assert queues.wake_at() == 10

    def test_a_shorter_pause_does_not_shorten_a_longer(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.push("a", 0, now=0)
        taken(queues, 0)
        queues.pause("a", until=10, now=0)
        queues.pause("a", until=5, now=0)
        queues.push("a", 1, now=0)

        assert entries(taken(queues, 9)) == []


class TestPausesOfOthers:
    """Of hosts that nobody has asked for yet, or of which nothing is on its way."""

    def test_hold_for_what_comes_later(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.pause("a", until=10, now=0)
        assert (len(queues), queues.wake_at()) == (0, None)
        queues.push("a", 1, now=5)
        queues.push("b", 2, now=5)

        assert entries(taken(queues, 5)) == [2]
        assert queues.wake_at() == 10
        assert entries(taken(queues, 10)) == [1]

    def test_hold_also_once_the_host_was_forgotten_again(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8, host_failures=1)
        queues.pause("a", until=10, now=0)
        queues.push("a", 1, now=0)
        queues.drain(0)
        queues.push("a", 2, now=1)

        assert entries(taken(queues, 9)) == []
        assert entries(taken(queues, 10)) == [2]

    def test_hold_up_entries_that_wait_already(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.push("a", 1, now=0)
        queues.push("a", 2, now=0, at=3)
        queues.pause("a", until=10, now=0)

        assert entries(taken(queues, 9)) == []
        assert entries(taken(queues, 10)) == [2, 1]

    def test_say_for_how_long_a_host_is_closed(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8, host_delay=2)
        queues.pause("a", until=10, now=0)
        queues.push("b", 1, now=0)
        taken(queues, 0)

        assert [queues.closed_for(host, 1) for host in "abc"] == [9, 1, 0]
        queues.push("a", 1, now=0)
        assert [queues.closed_for(host, 11) for host in "abc"] == [0, 0, 0]

    def test_never_shorten_each_other(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=8)
        queues.pause("a", until=10, now=0)
        queues.pause("a", until=5, now=0)
        queues.push("a", 1, now=5)

        assert entries(taken(queues, 9)) == []

    def test_of_a_host_that_is_known_for_its_failures_are_kept_and_then_its_failures_are_again(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1, host_failures=2)
        queues.push("a", 0, now=0)
        (turn,) = taken(queues, 0)
        queues.failed("a", ErrorKind.DNS, now=0)
        queues.release(turn, now=0)
        queues.pause("a", until=10, now=0)
        assert queues.wake_at() == 10
        assert not queues.has_turn(10)
        queues.push("a", 1, now=10)
        taken(queues, 10)
        queues.failed("a", ErrorKind.DNS, now=10)

        assert queues.is_dead("a")

    def test_are_remembered_of_so_many_hosts_and_the_last_to_end_are_among_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "REMEMBERED_PAUSES", 10)
        queues: HostQueues[int] = HostQueues(per_host=1)
        for number in range(1000):
            queues.pause(f"h{number}", until=1 + number, now=0)
            assert len(queues._pauses) <= 10
        for number in (0, 998, 999):
            queues.push(f"h{number}", number, now=0)

        assert entries(taken(queues, 1)) == [0]
        assert entries(taken(queues, 1000)) == [998, 999]


class TestDrain:
    def test_takes_out_everything_that_waits_with_the_time_until_which_it_was_kept_back(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1, host_delay=2)
        for entry, host in enumerate(["a", "a", "b"]):
            queues.push(host, entry, now=0)
        queues.push("a", 3, now=0, at=7)
        queues.push("c", 4, now=0, at=5)
        assert queues.pop(0) == Turn("a", 0, None)

        assert sorted(queues.drain(0), key=lambda pair: pair[0]) == [(1, None), (2, None), (3, 7), (4, 5)]
        assert queues.drain(0) == []
        assert taken(queues, 100) == []

    def test_leaves_turns_that_were_taken_and_what_is_known_of_the_hosts(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1, host_delay=2)
        queues.push("a", 0, now=0)
        queues.push("a", 1, now=0)
        (turn,) = taken(queues, 0)
        queues.drain(0)
        queues.push("a", 2, now=1)
        assert taken(queues, 3) == []  # the slot is taken
        queues.release(turn, now=1)

        assert taken(queues, 1.9) == []
        assert entries(taken(queues, 2)) == [2]

    def test_forgets_hosts_of_which_nothing_is_left(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1)
        for number in range(100):
            queues.push(f"h{number}", number, now=0)
            queues.push(f"w{number}", number, now=0, at=5)
        queues.drain(0)
        assert queues.pop(0) is None

        assert len(queues) == 0


class TestDeadHosts:
    first: Turn[int] | None

    def failing(self, failures: int) -> HostQueues[int]:
        queues: HostQueues[int] = HostQueues(per_host=1, host_delay=5, host_failures=3)
        for entry in range(10):
            queues.push("a", entry, now=0)
        self.first = queues.pop(0)
        assert self.first is not None
        for _ in range(failures):
            queues.failed("a", ErrorKind.DNS, now=0)
        return queues

    def test_a_host_that_fails_often_enough_hands_out_everything_at_once(self) -> None:
        turns = taken(self.failing(3), 0)

        assert entries(turns) == list(range(1, 10))
        assert {turn.dead for turn in turns} == {ErrorKind.DNS}

    def test_what_was_kept_back_included(self) -> None:
        queues = self.failing(2)
        queues.push("a", 99, now=0, at=1000)
        queues.push("b", 1, now=0, at=1000)
        queues.failed("a", ErrorKind.DNS, now=0)

        assert entries(taken(queues, 0)) == [*range(1, 10), 99]
        assert entries(taken(queues, 999)) == []
        assert entries(taken(queues, 1000)) == [1]

    def test_a_host_that_fails_less_often_does_not(self) -> None:
        queues = self.failing(2)

        assert not queues.is_dead("a")
        assert taken(queues, 0) == []

    def test_an_answer_in_between_starts_the_count_anew(self) -> None:
        queues = self.failing(2)
        queues.answered("a")
        queues.failed("a", ErrorKind.DNS, now=0)

        assert not queues.is_dead("a")

    def test_an_answer_revives_a_host(self) -> None:
        queues = self.failing(3)
        queues.answered("a")

        assert taken(queues, 0) == []
        assert self.first is not None
        queues.release(self.first, now=5)
        assert [turn.dead for turn in taken(queues, 5)] == [None]

    def test_failures_are_remembered_while_nothing_of_the_host_waits(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1, host_failures=3)
        for entry in range(3):
            queues.push("a", entry, now=entry)
            (turn,) = taken(queues, entry)
            queues.failed("a", ErrorKind.CONNECT, now=entry)
            queues.release(turn, now=entry)

        assert queues.is_dead("a")

    def test_with_zero_no_host_is_given_up(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1, host_failures=0)
        queues.push("a", 0, now=0)
        taken(queues, 0)
        for _ in range(1000):
            queues.failed("a", ErrorKind.DNS, now=0)

        assert not queues.is_dead("a")


class TestMemory:
    def test_an_idle_host_is_forgotten(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1)
        for entry in range(100):
            queues.push(f"h{entry}", entry, now=0)
            queues.release(taken(queues, 0)[0], now=0)

        assert len(queues) == 0

    def test_a_host_is_remembered_until_its_delay_is_over(self) -> None:
        queues: HostQueues[int] = HostQueues(per_host=1, host_delay=1)
        for entry in range(100):
            queues.push(f"h{entry}", entry, now=entry / 1000)
            queues.release(taken(queues, entry / 1000)[0], now=entry / 1000)

        assert len(queues) == 100
        assert queues.pop(2) is None
        assert len(queues) == 0
        assert queues.wake_at() is None

    def test_only_so_many_idle_hosts_are_remembered_for_their_failures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "REMEMBERED_HOSTS", 10)
        queues: HostQueues[int] = HostQueues(per_host=1, host_failures=1)
        for entry in range(50):
            queues.push(f"h{entry}", entry, now=0)
            (turn,) = taken(queues, 0)
            queues.failed(f"h{entry}", ErrorKind.DNS, now=0)
            queues.release(turn, now=0)

        assert len(queues) == 10
        assert not queues.is_dead("h0")
        assert queues.is_dead("h49")

    def test_a_pause_survives_however_many_hosts_come_between(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "REMEMBERED_HOSTS", 10)
        queues: HostQueues[int] = HostQueues(per_host=1)
        queues.push("paused", 0, now=0)
        (turn,) = taken(queues, 0)
        queues.pause("paused", until=60, now=0)
        queues.release(turn, now=0)
        for entry in range(50):
            queues.push(f"h{entry}", entry, now=0)
            (turn,) = taken(queues, 0)
            queues.failed(f"h{entry}", ErrorKind.DNS, now=0)
            queues.release(turn, now=0)
        queues.push("paused", 1, now=1)

        assert entries(taken(queues, 59)) == []


class Politeness(RuleBasedStateMachine):
    """Any order of events, checked against a model that knows only what each method promises."""

    per_host = 2
    host_delay = 0.0
    host_failures = 3

    def __init__(self) -> None:
        super().__init__()
        self.queues: HostQueues[int] = HostQueues(
            per_host=self.per_host, host_delay=self.host_delay, host_failures=self.host_failures
        )
        self.now = 0.0
        self.numbers = itertools.count()
        self.waiting: dict[int, str] = {}
        self.ripe_at: dict[int, float] = {}
        self.out: list[Turn[int]] = []
        self.live: Counter[str] = Counter()
        self.closed_until: dict[str, float] = dict.fromkeys(HOSTS, 0.0)
        self.last_turn: dict[str, float] = {}
        self.failures: Counter[str] = Counter()

    @rule(host=st.sampled_from(HOSTS), later=st.sampled_from([None, 0.0, 0.5, 3.0]), front=st.booleans())
    def push(self, host: str, later: float | None, front: bool) -> None:
        entry = next(self.numbers)
        at = None if later is None else self.now + later
        self.waiting[entry] = host
        self.ripe_at[entry] = self.now if at is None or self._dead(host) else at
        self.queues.push(host, entry, now=self.now, at=at, front=front)

    @rule()
    def pop(self) -> None:
        turn = self.queues.pop(self.now)
        if turn is None:
            assert not [entry for entry in self.waiting if self._may_go(entry)], "somebody could have gone"
            return
        assert self.waiting.pop(turn.entry) == turn.host, "lost, duplicated or given to another host"
        assert self.ripe_at[turn.entry] <= self.now
        assert (turn.dead is not None) == self._dead(turn.host)
        if turn.dead is None:
            assert self.live[turn.host] < self.per_host
            assert self.closed_until[turn.host] <= self.now
            assert self.now - self.last_turn.get(turn.host, -1e9) >= self.host_delay
            self.last_turn[turn.host] = self.now
        self.live[turn.host] += 1
        self.out.append(turn)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        turn = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.live[turn.host] -= 1
        self.queues.release(turn, now=self.now)

    @rule(host=st.sampled_from(HOSTS), seconds=st.sampled_from([0.0, 0.5, 2.0]))
    def pause(self, host: str, seconds: float) -> None:
        self.closed_until[host] = max(self.closed_until[host], self.now + seconds)
        self.queues.pause(host, until=self.now + seconds, now=self.now)

    @rule()
    def drain(self) -> None:
        drained = self.queues.drain(self.now)
        assert sorted(entry for entry, _ in drained) == sorted(self.waiting)
        for entry, at in drained:
            assert at is None or at == self.ripe_at[entry] > self.now
        self.waiting.clear()

    @precondition(lambda self: self.out)
    @rule(data=st.data(), times=st.integers(1, 3))
    def failed(self, data: st.DataObject, times: int) -> None:
        host = data.draw(st.sampled_from(self.out)).host
        for _ in range(times):
            self.failures[host] += 1
            self.queues.failed(host, ErrorKind.CONNECT, now=self.now)
        if self._dead(host):
            self.ripe_at.update({entry: self.now for entry, name in self.waiting.items() if name == host})

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        host = data.draw(st.sampled_from(self.out)).host
        self.failures[host] = 0
        self.queues.answered(host)

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.queues.wake_at() is not None)
    @rule()
    def time_passes_to_the_alarm(self) -> None:
        wake_at = self.queues.wake_at()
        assert wake_at is not None
        self.now = max(self.now, wake_at)

    @invariant()
    def whoever_asks_at_the_alarm_misses_nobody(self) -> None:
        next_chances = [self._chance(entry) for entry in self.waiting]
        later = [chance for chance in next_chances if chance is not None and chance > self.now]
        if later and not self.queues.has_turn(self.now):
            wake_at = self.queues.wake_at()
            assert wake_at is not None
            assert wake_at <= min(later)

    @invariant()
    def nothing_is_known_of_hosts_without_a_reason(self) -> None:
        known = {host for host in HOSTS if self.live[host] or self.failures[host] or self.closed_until[host] > self.now}
        known |= {host for host, turn in self.last_turn.items() if turn + self.host_delay > self.now}
        self.queues.has_turn(self.now)  # runs what is due
        assert len(self.queues) <= len(known | set(self.waiting.values()))

    def _dead(self, host: str) -> bool:
        return self.failures[host] >= self.host_failures

    def _may_go(self, entry: int) -> bool:
        chance = self._chance(entry)
        return chance is not None and chance <= self.now

    def _chance(self, entry: int) -> float | None:
        """When an entry may go if nothing else happens; None where a slot must become free first."""
        host = self.waiting[entry]
        if self._dead(host):
            return self.ripe_at[entry]
        if self.live[host] >= self.per_host:
            return None
        delayed = self.last_turn.get(host, -1e9) + self.host_delay
        return max(self.ripe_at[entry], self.closed_until[host], delayed)

    def teardown(self) -> None:
        """Whatever happened, everybody gets a turn in the end."""
        for _ in range(10_000):
            while self.out:
                self.release_first()
            if not self.waiting:
                break
            self.pop()
            if not self.out:
                wake_at = self.queues.wake_at()
                assert wake_at is not None, "nobody would ever ask again"
                self.now = max(self.now, wake_at)
        assert not self.waiting

    def release_first(self) -> None:
        turn = self.out.pop()
        self.live[turn.host] -= 1
        self.queues.release(turn, now=self.now)


class PolitenessWithDelay(Politeness):
    host_delay = 0.75


class PolitenessOneByOne(Politeness):
    per_host = 1
    host_failures = 1


TestAnyOrder = Politeness.TestCase
TestAnyOrderWithDelay = PolitenessWithDelay.TestCase
TestAnyOrderOneByOne = PolitenessOneByOne.TestCase
for case in (TestAnyOrder, TestAnyOrderWithDelay, TestAnyOrderOneByOne):
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
