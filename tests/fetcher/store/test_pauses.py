"""Pauses of hosts that every process keeps."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial

import pytest

from fetcher.models import HostPause
from fetcher.store import leases, pauses
from tests.support.stored import side_by_side

LONG = 1000.0


def save(**seconds: float) -> None:
    pauses.save({host: time.monotonic() + left for host, left in seconds.items()})


def left(longest: float = LONG, **options) -> dict[str, int]:
    """Return the pauses in force, to the second above."""
    return {host: -int(-pause.seconds // 1) for host, pause in pauses.in_force(longest, **options).items()}


def shift(**seconds: float) -> None:
    """Have pauses been told of, and end, so many seconds earlier than they were and do."""
    for host, earlier in seconds.items():
        row = HostPause.objects.get(host=host)
        row.told_at -= timedelta(seconds=earlier)
        row.until -= timedelta(seconds=earlier)
        row.save()


@pytest.mark.django_db
class TestSave:
    def test_adds_pauses_with_the_time_that_is_left(self):
        save(a=100, b=7)
        assert left() == {"a": 100, "b": 7}

    @pytest.mark.parametrize(
        ("first", "then", "found"),
        [
            pytest.param(10, 100, 100, id="a longer one goes"),
            pytest.param(100, 10, 100, id="a shorter one does not"),
            pytest.param(100, -5, 100, id="one that is over does not"),
        ],
    )
    def test_a_pause_is_never_shortened(self, first, then, found):
        save(a=first)
        save(a=then)
        assert left() == {"a": found}

    def test_again_changes_nothing(self):
        told = {"a": time.monotonic() + 100}
        pauses.save(told)
        pauses.save(told)
        assert left() == {"a": 100}

    def test_of_nothing_is_nothing(self):
        save()
        assert left() == {}

    def test_removes_what_is_over(self):
        save(a=10, b=10)
        shift(a=60)
        save(c=10)
        assert set(HostPause.objects.values_list("host", flat=True)) == {"b", "c"}

    def test_replaces_one_of_before_the_clock_was_set_back(self):
        save(a=100)
        shift(a=-86_400)
        save(a=5)
        assert left() == {"a": 5}


@pytest.mark.django_db
class TestInForce:
    @pytest.mark.parametrize(
        ("longest", "earlier", "found"),
        [
            pytest.param(LONG, 0, {"a": 100}, id="all of it"),
            pytest.param(LONG, 30, {"a": 70}, id="what is left"),
            pytest.param(LONG, 101, {}, id="over"),
            pytest.param(20, 0, {"a": 20}, id="as long as one waits oneself"),
            pytest.param(20, 15, {"a": 5}, id="which counts from when it was told of"),
            pytest.param(20, 21, {}, id="and not from when one hears of it"),
            pytest.param(0, 0, {}, id="not at all"),
            pytest.param(1e300, 0, {"a": 100}, id="however long"),
            pytest.param(LONG, -86_400, {}, id="told of before the clock was set back by a day"),
        ],
    )
    def test_bounds(self, longest, earlier, found):
        save(a=100)
        shift(a=earlier)
        assert left(longest) == found

    def test_of_some_hosts(self):
        save(a=100, b=100)
        assert left(hosts=["b", "c"]) == {"b": 100}

    def test_no_more_than_can_be_kept_and_those_that_last_longest(self, monkeypatch):
        monkeypatch.setattr(pauses, "MOST", 2)
        save(a=100, b=200, c=300)
        assert left() == {"c": 300, "b": 200}

    def test_tell_a_pause_from_a_longer_one(self):
        save(a=100)
        before = pauses.in_force(LONG)["a"].until
        assert pauses.in_force(LONG)["a"].until == before
        save(a=200)
        assert pauses.in_force(LONG)["a"].until > before

    def test_go_by_the_database_s_clock(self, monkeypatch):
        now = leases.database_now()
        monkeypatch.setattr(pauses, "database_now", lambda: now + timedelta(seconds=50))
        save(a=100)
        assert abs((HostPause.objects.get().until - now).total_seconds() - 150) < 5


@pytest.mark.django_db(transaction=True)
def test_many_processes_save_the_same_hosts_at_once_and_the_longest_stays():
    hosts = [f"h{number}" for number in range(50)]
    for number in range(5):
        for host in hosts[::2]:
            HostPause.objects.filter(host=host).update(until=leases.database_now() - timedelta(hours=1))
        given = [dict.fromkeys(order, 100.0 + 10 * number + n) for n, order in enumerate([hosts, hosts[::-1]] * 2)]
        side_by_side(*(partial(save, **one) for one in given))
    assert set(left().values()) == {143}
    assert HostPause.objects.count() == 50
