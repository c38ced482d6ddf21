"""What a lane gives the engine: a host that does not answer holds up no other of its lane."""

from __future__ import annotations

from collections import Counter

import pytest

from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Outcome, Status, Target
from fetcher.lane import PARKED_TARGETS, Lane
from fetcher.store.leases import HeldLane
from fetcher.store.shards import Slot
from tests.support.stored import outcome

ALLOWANCE = 8
MORE = Slot(1, 1, 1, 0, None)
"""Stands for targets of the lane that are not loaded yet."""


def lane_of(*loaded: Target, more: bool = False) -> Lane:
    lane = Lane(HeldLane(1))
    lane.ready.extend(loaded)
    if more:
        lane.slots.append(MORE)
    return lane


def targets(host: str, count: int) -> list[Target]:
    return [Target(f"http://{host}/{number}", host) for number in range(count)]


def taken(lane: Lane, allowance: int = ALLOWANCE) -> list[Target]:
    """Take what the lane gives within its allowance."""
    found = []
    while lane.may_send(allowance) and (target := lane.take(allowance)) is not None:
        found.append(target)
    return found


def by_host(found: list[Target]) -> Counter[str]:
    return Counter(target.host for target in found)


def unanswered(target: Target, status: int | None = None) -> Outcome:
    return outcome(target, status=Status.FAILED, error_kind=ErrorKind.TIMEOUT, http_status=status)


def test_lane_gives_all_of_its_only_host_within_the_allowance() -> None:
    assert taken(lane_of(*targets("a", 20))) == targets("a", 20)[:ALLOWANCE]


def test_lane_gives_other_hosts_their_turn_before_more_of_a_host_that_has_not_answered() -> None:
    found = taken(lane_of(*targets("silent", 50), *targets("good", 5)))

    assert by_host(found[:4]) == {"silent": 2, "good": 2}


def test_lane_asks_for_more_targets_before_it_gives_more_of_a_host_that_has_not_answered() -> None:
    lane = lane_of(*targets("silent", 50), more=True)
    assert taken(lane) == targets("silent", 2)
    assert not lane.ready
    assert not lane.empty
    lane.ready.extend(targets("good", 1))

    assert taken(lane) == targets("good", 1)


def test_lane_puts_so_many_targets_aside_and_no_more() -> None:
    lane = lane_of(*targets("silent", 500), *targets("good", 5), more=True)
    found = taken(lane)

    assert lane.parked <= PARKED_TARGETS
    assert by_host(found) == {"silent": ALLOWANCE}


def test_lane_gives_a_host_all_it_may_have_once_it_has_answered() -> None:
    lane = lane_of(*targets("a", 50), more=True)
    first, second = taken(lane)
    lane.settle(outcome(first))

    assert taken(lane) == targets("a", 50)[2 : 1 + ALLOWANCE]
    lane.settle(outcome(second))
    assert by_host(taken(lane)) == {"a": 1}


@pytest.mark.parametrize("status", [None, 200], ids=["silent", "endless"])
def test_lane_gives_a_host_no_more_when_a_timeout_ended_its_request(status: int | None) -> None:
    lane = lane_of(*targets("bad", 50), more=True)
    for target in taken(lane):
        lane.settle(unanswered(target, status))

    assert len(taken(lane)) == 2


def test_lane_keeps_the_order_of_a_hosts_targets() -> None:
    wanted, found = targets("a", 300), []
    lane = lane_of(*wanted, more=True)
    while batch := taken(lane):
        found += batch
        for target in batch:
            lane.settle(outcome(target))
            if len(found) == 200:
                lane.slots.clear()

    assert found == wanted


def test_lane_forgets_hosts_of_which_nothing_is_left() -> None:
    lane = lane_of(*[target for number in range(50) for target in targets(f"h{number}", 3)])
    while batch := taken(lane):
        for number, target in enumerate(batch):
            if number % 2 or target.url.endswith("/0"):
                lane.settle(unanswered(target))
            else:
                lane.give_back(target)

    assert lane.empty
    assert (lane.hosts, lane.parked, lane.outstanding) == ({}, 0, 0)
