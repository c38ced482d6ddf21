"""Workers, and the lanes that they hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from django.utils import timezone

from fetcher.conf import fetcher_settings
from fetcher.models import Body, Lane, Result, Run, RunState, Shard, Worker
from fetcher.store import leases, runs
from fetcher.store.leases import OBSERVED, Watch
from fetcher.store.record import LaneLost, Recorder
from tests.support.stored import open_targets, outcome, plan, record, side_by_side

HOSTS = [f"http://h{number}.example/" for number in range(30)]


class Clock:
    """Monotonic seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def expire(worker: int, seconds: float = -1) -> None:
    Worker.objects.filter(pk=worker).update(expires_at=timezone.now() + timedelta(seconds=seconds))


def kill(worker: int) -> None:
    """Make a worker's row that of a process of this machine that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    Worker.objects.filter(pk=worker).update(pid=ended.pid, process_started=1)


def patient(worker: int) -> Watch:
    """Return a watch that has seen the same leases for long enough."""
    clock = Clock()
    watch = Watch(clock)
    look_on(watch, clock, worker, OBSERVED - 1)
    clock.seconds += 1
    return watch


def look_on(watch: Watch, clock: Clock, worker: int, seconds: float) -> None:
    """Have a worker look at the others once a second."""
    watch.gone(but=worker)
    while clock.seconds < seconds:
        clock.seconds += 1
        watch.gone(but=worker)


def numbers() -> list[int]:
    return list(Lane.objects.values_list("id", flat=True))


@pytest.mark.django_db
class TestLeases:
    def test_take_every_free_lane(self):
        run, worker = plan(*HOSTS), leases.register_worker()
        assert set(leases.lease_lanes(run, worker)) == set(numbers())

    def test_are_taken_also_by_a_worker_that_was_forgotten_meanwhile(self):
        run, worker = plan(*HOSTS), leases.register_worker()
        Worker.objects.filter(pk=worker).delete()
        assert set(leases.lease_lanes(run, worker)) == set(numbers())
        connection.check_constraints()

    def test_leave_other_runs_alone(self):
        plan("http://a.example/")
        assert leases.lease_lanes(plan("http://b.example/"), leases.register_worker()) == [
            Lane.objects.order_by("-id")[0].pk
        ]

    def test_leave_what_a_living_worker_holds(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        leases.lease_lanes(run, first)
        assert leases.lease_lanes(run, second) == []
        assert not Lane.objects.exclude(takeovers=0).exists()

    def test_are_kept_by_a_renewal(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        leases.lease_lanes(run, first)
        expire(first)
        watch = patient(second)
        leases.renew(first)
        assert leases.lease_lanes(run, second, watch) == []

    def test_of_an_expired_worker_are_its_own_until_another_takes_them(self):
        run, worker = plan(*HOSTS), leases.register_worker()
        held = leases.lease_lanes(run, worker)
        expire(worker)
        assert leases.lease_lanes(run, worker) == held

    def test_that_were_given_up_are_free(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        held = leases.lease_lanes(run, first)
        leases.let_go(first)
        assert not Worker.objects.filter(pk=first).exists()
        assert leases.lease_lanes(run, second) == held
        assert not Lane.objects.exclude(takeovers=0).exists()

    def test_of_what_is_done_are_not_taken(self):
        run = plan(*HOSTS)
        record(run, map(outcome, open_targets(run)))
        assert leases.lease_lanes(run, leases.register_worker()) == []

    def test_renewing_puts_back_a_row_that_was_forgotten(self):
        run, worker = plan(*HOSTS), leases.register_worker()
        Worker.objects.all().delete()
        leases.renew(worker, run)
        assert leases.lease_lanes(run, worker)


@pytest.mark.django_db
class TestShares:
    def hold(self, run: int, worker: int) -> leases.Holding:
        return leases.hold_lanes(run, worker)

    def test_are_equal_among_the_workers_of_a_run(self):
        run = plan(*HOSTS)
        workers = [leases.register_worker(run) for _ in range(3)]
        count = Lane.objects.count()
        held = [self.hold(run, worker) for worker in workers]
        assert [len(holding.lanes) for holding in held[:2]] == [-(-count // 3)] * 2
        assert len(held[2].lanes) == count - 2 * -(-count // 3)
        assert [holding.elsewhere for holding in held] == [count - len(holding.lanes) for holding in held]

    def test_shrink_when_a_worker_joins_and_what_is_given_back_is_its(self):
        run, first = plan(*HOSTS), None
        first = leases.register_worker(run)
        held = self.hold(run, first)
        second = leases.register_worker(run)
        assert self.hold(run, second).lanes == []
        now = self.hold(run, first)
        assert (len(now.lanes), now.share) == (len(held.lanes), -(-len(held.lanes) // 2))
        leases.give_back(first, [lane.id for lane in now.lanes[now.share :]])
        assert len(self.hold(run, second).lanes) == len(held.lanes) - now.share

    def test_count_neither_other_runs_workers_nor_those_that_are_gone(self):
        run, other = plan(*HOSTS), plan("http://other.example/")
        leases.register_worker(other)
        gone = leases.register_worker(run)
        kill(gone)
        assert self.hold(run, leases.register_worker(run)).share == Lane.objects.filter(run=run).count()


@pytest.mark.django_db
class TestWhenHostsWereAsked:
    """By whoever had the lane before: the next holder keeps the host delay from then on."""

    def asked(self, run: int) -> float | None:
        worker = leases.register_worker(run)
        [lane] = leases.hold_lanes(run, worker).lanes
        return lane.asked

    @pytest.fixture
    def run(self) -> int:
        return plan("http://a.example/")

    def test_is_not_known_of_a_lane_that_nobody_had(self, run):
        assert self.asked(run) is None

    @pytest.mark.parametrize("was_asked", [True, False])
    def test_is_noted_when_one_is_given_back_of_which_something_was_sent(self, run, was_asked):
        worker = leases.register_worker(run)
        held = leases.lease_lanes(run, worker)
        leases.give_back(worker, held, asked=held if was_asked else [])
        assert not Lane.objects.exclude(worker=None).exists()
        leases.let_go(worker)
        assert self.asked(run) == (pytest.approx(0, abs=5) if was_asked else None)

    def test_is_noted_when_all_is_let_go(self, run):
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        leases.let_go(worker)
        assert self.asked(run) == pytest.approx(0, abs=5)

    def test_is_taken_for_the_moment_at_which_it_is_taken_from_one_that_is_gone(self, run):
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        kill(worker)
        assert self.asked(run) == pytest.approx(0, abs=5)

    def test_is_told_with_the_time_that_has_passed(self, run):
        Lane.objects.update(asked_at=timezone.now() - timedelta(seconds=100))
        assert self.asked(run) == pytest.approx(100, abs=5)


@pytest.mark.django_db
class TestWatch:
    """Who is gone: what a process on this machine shows at once, and a lease only what was seen of it."""

    def test_a_process_of_this_machine_that_has_ended_is_gone_at_once(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        held = leases.lease_lanes(run, first)
        kill(first)
        assert leases.lease_lanes(run, second) == held

    def test_one_of_another_machine_is_not_looked_for_here(self):
        worker, me = leases.register_worker(), leases.register_worker()
        kill(worker)
        Worker.objects.filter(pk=worker).update(hostname="elsewhere")
        assert not Watch().gone(but=me)

    @pytest.mark.parametrize(
        ("left", "seen", "gone"),
        [
            pytest.param(30, OBSERVED, False, id="renewed lately"),
            pytest.param(-1, 0, False, id="over, but seen for the first time: the clock may have been set"),
            pytest.param(-1, OBSERVED - 1, False, id="over, and a renewal may still come"),
            pytest.param(-1, OBSERVED, True, id="over, and no renewal came"),
            pytest.param(-7200, OBSERVED, True, id="over for hours"),
            pytest.param(7200, OBSERVED, True, id="made before the clock was set back by hours"),
            pytest.param(7200, 1, False, id="made before the clock was set back, and may be renewed"),
        ],
    )
    def test_a_lease_is_believed_to_be_over_when_it_was_watched(self, left, seen, gone):
        worker, me, clock = leases.register_worker(), leases.register_worker(), Clock()
        expire(worker, left)
        watch = Watch(clock)
        look_on(watch, clock, me, seen)
        assert list(watch.gone(but=me)) == ([worker] if gone else [])

    @pytest.mark.parametrize("step", [-7200.0, 7200.0])
    def test_a_clock_that_steps_takes_nothing_from_a_worker_that_renews(self, step, monkeypatch):
        """Between two looks a minute passes and the clock of all is set, while the other renews as it should."""
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        leases.lease_lanes(run, first)
        now, clock = timezone.now(), Clock()
        monkeypatch.setattr(leases, "database_now", lambda: now)
        watch = Watch(clock)
        for _ in range(8):
            watch.gone(but=second)
            clock.seconds += leases.RENEWAL
            now += timedelta(seconds=leases.RENEWAL)
            if clock.seconds == 2 * leases.RENEWAL:
                now += timedelta(seconds=step)
                assert not watch.gone(but=second)
            leases.renew(first)
        assert leases.lease_lanes(run, second, watch) == []


@pytest.mark.django_db
class TestTakeovers:
    @pytest.fixture
    def run(self) -> int:
        return plan("http://a.example/1", "http://a.example/2")

    def take(self, run: int) -> leases.HeldLane:
        """Have the lane taken over by a new worker, which then ends."""
        worker = leases.register_worker(run)
        [lane] = leases.hold_lanes(run, worker).lanes
        kill(worker)
        return lane

    def test_without_a_result_in_between_make_a_lane_one_to_be_careful_with(self, run):
        assert [self.take(run).careful for _ in range(5)] == [False, False, False, True, True]

    def test_are_counted_from_one_again_once_there_is_a_result(self, run):
        for _ in range(3):
            self.take(run)
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        Recorder(run, worker, fetcher_settings()).record([outcome(open_targets(run)[0])])
        kill(worker)
        self.take(run)
        assert Lane.objects.get().takeovers == 1

    def test_are_not_counted_where_the_lane_was_given_up(self, run):
        for _ in range(4):
            worker = leases.register_worker(run)
            leases.lease_lanes(run, worker)
            leases.let_go(worker)
        assert Lane.objects.get().takeovers == 0

    def test_are_a_strike_for_the_target_that_the_lane_was_at(self, run):
        strikes = []
        for _ in range(3):
            worker = leases.register_worker(run)
            [lane] = leases.hold_lanes(run, worker).lanes
            strikes.append((lane.suspect, lane.strikes))
            leases.accuse(worker, lane.id, 1024)
            kill(worker)
        assert strikes == [(None, 0), (1024, 1), (1024, 2)]

    def test_begin_with_no_strike_for_the_next_target(self, run):
        worker = leases.register_worker(run)
        [lane] = leases.hold_lanes(run, worker).lanes
        leases.accuse(worker, lane.id, 1024)
        kill(worker)
        lane = self.take(run)
        worker = leases.register_worker(run)
        leases.lease_lanes(run, worker)
        leases.accuse(worker, lane.id, 1025)
        assert list(Lane.objects.values_list("suspect", "strikes")) == [(1025, 0)]
        leases.acquit(list(Shard.objects.values_list("id", flat=True)))
        assert list(Lane.objects.values_list("takeovers", "suspect", "strikes")) == [(0, None, 0)]


@pytest.mark.django_db
class TestResume:
    def test_is_refused_while_a_worker_is_there_and_says_which(self):
        run = plan(*HOSTS)
        other = leases.register_worker(run)
        runs.start(run, other)
        me = leases.register_worker(run)
        with pytest.raises(runs.RunBusy, match=rf"process \d+ on .* 0 s ago.*runs show {run} --watch"):
            runs.resume(run, me)
        kill(other)
        runs.resume(run, me)
        assert (Run.objects.get().planner, Run.objects.get().state) == (me, RunState.RUNNING)

    @pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED])
    def test_is_refused_for_a_run_that_is_over(self, state):
        run = plan("http://a.example/")
        Run.objects.update(state=state)
        with pytest.raises(runs.NotResumable, match=f"run {run} is {state}: there is nothing to resume"):
            runs.resume(run, leases.register_worker(run))

    def test_keeps_when_the_run_began(self):
        run = plan("http://a.example/")
        runs.start(run)
        began = Run.objects.get().started_at
        runs.finish(run)
        runs.resume(run, leases.register_worker(run))
        assert (Run.objects.get().started_at, Run.objects.get().finished_at) == (began, None)


@pytest.mark.django_db(transaction=True)
class TestWorkersSideBySide:
    def test_share_the_lanes_and_take_each_once(self):
        for _ in range(5):
            run = plan(*HOSTS)
            workers = [leases.register_worker(run) for _ in range(4)]
            held = side_by_side(*(partial(leases.lease_lanes, run, worker) for worker in workers))
            assert len(set().union(*held)) == sum(map(len, held)) <= Lane.objects.filter(run=run).count()
            leases.lease_lanes(run, workers[0])

    def test_take_over_an_expired_workers_lanes_once(self):
        run, dead = plan(*HOSTS), leases.register_worker()
        leases.lease_lanes(run, dead)
        kill(dead)
        workers = [leases.register_worker() for _ in range(4)]
        held = side_by_side(*(partial(leases.lease_lanes, run, worker) for worker in workers))
        assert len(set().union(*held)) == sum(map(len, held))
        left: Callable[[], bool] = Lane.objects.filter(worker=dead).exists
        for worker in workers:
            if left():
                leases.lease_lanes(run, worker)
        assert set(Lane.objects.values_list("takeovers", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
class TestALostLane:
    def test_takes_no_results_bodies_counters_or_marks(self):
        run, first, second = plan("http://a.example/", "http://b.example/"), *(leases.register_worker() for _ in "12")
        lanes = leases.lease_lanes(run, first)
        targets = open_targets(run)
        Lane.objects.filter(pk=targets[1].key.lane).update(worker=second)

        with pytest.raises(LaneLost) as raised:
            Recorder(run, first, fetcher_settings()).record(
                [outcome(target) for target in targets], done=[target.key.shard for target in targets]
            )

        assert raised.value.lanes == {targets[1].key.lane} < set(lanes)
        assert not Result.objects.exists()
        assert not Body.objects.exists()
        assert not Lane.objects.exclude(succeeded=0, bytes=0).exists()
        assert not Shard.objects.filter(done_at__isnull=False).exists()

    def test_leaves_the_others_recordable(self):
        run, worker = plan("http://a.example/", "http://b.example/"), leases.register_worker()
        leases.lease_lanes(run, worker)
        kept, lost = open_targets(run)
        Lane.objects.filter(pk=lost.key.lane).update(worker=None)
        assert Recorder(run, worker, fetcher_settings()).record([outcome(kept)]) == [outcome(kept)]
