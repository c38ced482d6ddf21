"""Hosts that answer keep room beside hosts that do not, whatever these do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetcher.engine.errors import ErrorKind
from fetcher.engine.limits import HostQueues, Turn
from fetcher.engine.slots import OPENING_SECONDS, STUCK_SECONDS
from tests.fetcher.engine.test_limits import taken

LATER = 2 * OPENING_SECONDS


def queues_with(slots: int, per_host: int = 8) -> HostQueues[int]:
    return HostQueues(per_host=per_host, slots=slots)


def opened(slots: int, per_host: int = 8) -> HostQueues[int]:
    """Return queues whose first moments are over."""
    queues = queues_with(slots, per_host)
    queues.push("first", -1, now=0)
    for turn in taken(queues, 0):
        queues.release(turn, now=LATER)
    assert queues.pop(LATER) is None
    return queues


def push(queues: HostQueues[int], host: str, count: int, now: float = LATER) -> None:
    for number in range(count):
        queues.push(host, number, now=now)


def prove(queues: HostQueues[int], host: str, now: float = LATER) -> None:
    """Have a host answer one request."""
    queues.push(host, -1, now=now)
    turn = queues.pop(now)
    assert turn is not None
    assert turn.host == host
    queues.answered(host)
    queues.release(turn, now=now)


def silence(queues: HostQueues[int], *hosts: str) -> None:
    """Have each of these hosts fail a request without an answer. Nothing else may be waiting."""
    for host in hosts:
        queues.push(host, 0, now=LATER)
        turn = queues.pop(LATER)
        assert turn is not None
        queues.failed(host, ErrorKind.TIMEOUT, now=LATER)
        queues.release(turn, now=LATER)


def by_host(turns: list[Turn[int]]) -> Counter[str]:
    return Counter(turn.host for turn in turns)


class TestFreshHosts:
    def test_have_one_request_each_before_any_has_a_second(self) -> None:
        queues = opened(20)
        for host in "abcd":
            push(queues, host, 3)

        turns = taken(queues, LATER)
        assert [turn.host for turn in turns[:4]] == list("abcd")

    def test_one_alone_has_all_that_one_host_may_have_at_once(self) -> None:
        queues = queues_with(100)
        push(queues, "a", 50, now=0)

        assert len(taken(queues, 0)) == 8

    def test_one_alone_has_every_slot_when_there_are_no_more_than_for_one_host(self) -> None:
        queues = queues_with(8)
        push(queues, "a", 50, now=0)

        assert len(taken(queues, 0)) == 8

    def test_have_two_thirds_of_the_slots_at_first_and_all_when_none_has_answered_soon(self) -> None:
        queues = queues_with(30, per_host=2)
        for number in range(100):
            push(queues, f"h{number}", 1, now=0)

        assert len(taken(queues, 0)) == 20
        assert len(taken(queues, OPENING_SECONDS / 2)) == 0
        assert len(taken(queues, OPENING_SECONDS)) == 10

    def test_have_a_fifth_of_the_slots_while_a_quick_host_waits(self) -> None:
        queues = opened(40, per_host=100)
        prove(queues, "quick")
        push(queues, "quick", 100)
        for number in range(100):
            push(queues, f"h{number}", 1)

        turns = [queues.pop(LATER) for _ in range(40)]
        assert sum(turn is not None and turn.host != "quick" for turn in turns) == 8

    def test_are_tried_although_their_share_is_full_of_stuck_requests(self) -> None:
        queues = opened(40, per_host=200)
        prove(queues, "quick")
        push(queues, "quick", 150)
        for number in range(100):
            push(queues, f"h{number}", 1)
        turns = [turn for _ in range(40) if (turn := queues.pop(LATER)) is not None]
        for turn in turns:
            if turn.host == "quick":
                queues.release(turn, now=LATER)
        after = by_host([turn for _ in range(32) if (turn := queues.pop(LATER + STUCK_SECONDS)) is not None])

        assert len(by_host(turns)) == 1 + 8
        assert len(after) == 1 + 2

    def test_come_before_hosts_that_gave_no_answer_except_on_a_tenth_of_the_slots(self) -> None:
        queues = opened(20, per_host=1)
        silence(queues, "s1", "s2", "s3")
        for host in ("s1", "s2", "s3"):
            push(queues, host, 1)
        for number in range(30):
            push(queues, f"h{number}", 1)
        order = [turn.host for turn in taken(queues, LATER)]

        assert order == ["s1", "s2", *(f"h{number}" for number in range(18))]

    def test_that_came_before_a_retry_go_before_it(self) -> None:
        queues = opened(1, per_host=1)
        silence(queues, "silent")
        for host in ("h0", "silent", "h1"):
            push(queues, host, 1)
        order = []
        while (turn := queues.pop(LATER)) is not None:
            order.append(turn.host)
            queues.answered(turn.host)
            queues.release(turn, now=LATER)

        assert order == ["h0", "silent", "h1"]


class TestQuickHosts:
    def test_open_fully_after_their_first_answer(self) -> None:
        queues = opened(100)
        for number in range(80):
            push(queues, f"h{number}", 1)
        push(queues, "a", 20)
        turns = taken(queues, LATER)
        assert by_host(turns)["a"] == 1
        queues.answered("a")

        assert by_host(taken(queues, LATER)) == {"a": 7}

    def test_keep_a_fifth_of_the_slots_while_they_have_work(self) -> None:
        queues = opened(40, per_host=1)
        for number in range(20):
            prove(queues, f"quick{number}")
            queues.push(f"quick{number}", 0, now=LATER, at=LATER + 1)  # it waits, for a backoff say
        for number in range(100):
            push(queues, f"h{number}", 1)

        assert len(taken(queues, LATER)) == 32

    def test_are_known_again_after_they_had_nothing_to_do(self) -> None:
        queues = opened(40, per_host=100)
        prove(queues, "quick")
        assert len(queues) == 0
        push(queues, "quick", 100)

        assert len(taken(queues, LATER)) == 100  # the number of all is the caller's to keep to

    def test_count_as_others_while_a_request_is_stuck_and_again_when_it_ends(self) -> None:
        queues = opened(10, per_host=100)
        prove(queues, "endless")
        prove(queues, "quick")
        push(queues, "endless", 1)
        (stuck,) = taken(queues, LATER)
        now = LATER + STUCK_SECONDS
        push(queues, "endless", 100, now=now)
        push(queues, "quick", 100, now=now)
        first = by_host([turn for _ in range(50) if (turn := queues.pop(now)) is not None])
        queues.answered("endless")
        queues.release(stuck, now=now)
        second = by_host([turn for _ in range(50) if (turn := queues.pop(now)) is not None])

        assert first == {"quick": 49, "endless": 1}
        assert second["endless"] > 20

    def test_must_prove_themselves_again_when_an_answer_was_cut_off(self) -> None:
        queues = opened(10, per_host=100)
        prove(queues, "endless")
        prove(queues, "quick")
        queues.hung("endless")
        push(queues, "endless", 100)
        push(queues, "quick", 100)

        assert by_host([turn for _ in range(50) if (turn := queues.pop(LATER)) is not None])["endless"] == 2


class TestWaitingApart:
    def test_counts_what_waits_for_hosts_that_do_not_answer(self) -> None:
        queues = opened(10)
        push(queues, "silent", 5)
        push(queues, "good", 5)
        turns = taken(queues, LATER)
        assert queues.waiting_apart == 0
        queues.failed("silent", ErrorKind.TIMEOUT, now=LATER)
        waiting = 5 - by_host(turns)["silent"]
        assert queues.waiting_apart == waiting
        queues.push("silent", 9, now=LATER, at=LATER + 100)
        assert queues.waiting_apart == waiting + 1
        queues.answered("silent")
        assert queues.waiting_apart == 0

    def test_is_nothing_once_all_was_taken_out(self) -> None:
        queues = opened(10)
        push(queues, "silent", 1)
        taken(queues, LATER)
        queues.failed("silent", ErrorKind.TIMEOUT, now=LATER)
        push(queues, "silent", 5)
        queues.push("silent", 9, now=LATER, at=LATER + 100)
        assert len(queues.drain(LATER)) == 6

        assert queues.waiting_apart == 0


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 100])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_entry_has_its_turn_however_few_slots_there_are(slots: int, data: st.DataObject) -> None:
    """Whatever hosts do: whenever nothing is in flight something goes, and never more than there are slots."""
    queues: HostQueues[int] = HostQueues(per_host=data.draw(st.integers(1, 3)), slots=slots)
    behaviours = data.draw(st.lists(st.sampled_from(["answers", "silent", "endless", "resets"]), max_size=12))
    now, left = 0.0, 0
    for number, _ in enumerate(behaviours):
        for _ in range(3):
            queues.push(f"h{number}", left, now=now)
            left += 1
    out: list[Turn[int]] = []
    while left:
        while len(out) < slots and (turn := queues.pop(now)) is not None:
            out.append(turn)
        assert out
        now += data.draw(st.sampled_from([0.0, 0.1, STUCK_SECONDS, 30.0]))
        turn = out.pop(data.draw(st.integers(0, len(out) - 1)))
        behaviour = behaviours[int(turn.host[1:])]
        if behaviour in ("answers", "endless"):
            queues.answered(turn.host)
        if behaviour == "endless":
            queues.hung(turn.host)
        if behaviour == "silent":
            queues.failed(turn.host, ErrorKind.TIMEOUT, now=now)
        queues.release(turn, now=now)
        left -= 1
    assert queues.pop(now) is None
    assert queues.waiting_apart == 0
    assert (queues._slots._doubtful, queues._slots._stuck, queues._slots._quick_hosts) == (0, 0, 0)
