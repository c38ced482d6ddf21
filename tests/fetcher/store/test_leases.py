"""Workers, and the lanes that they hold."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from fetcher.conf import fetcher_settings
from fetcher.models import Body, Lane, Result, Shard, Worker
from fetcher.store import leases
from fetcher.store.record import LaneLost, Recorder
from tests.support.stored import open_targets, outcome, plan, side_by_side

HOSTS = [f"http://h{number}.example/" for number in range(30)]


def expire(worker: int) -> None:
    Worker.objects.filter(pk=worker).update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.django_db
class TestLeases:
    def test_take_every_free_lane(self):
        run, worker = plan(*HOSTS), leases.register_worker()
        assert set(leases.lease_lanes(run, worker)) == set(Lane.objects.values_list("id", flat=True))

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

    def test_take_over_what_an_expired_worker_held_and_count_it(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        held = leases.lease_lanes(run, first)
        expire(first)
        assert leases.lease_lanes(run, second) == held
        assert set(Lane.objects.values_list("takeovers", flat=True)) == {1}

    def test_are_kept_by_a_renewal(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        leases.lease_lanes(run, first)
        expire(first)
        leases.renew(first)
        assert leases.lease_lanes(run, second) == []

    def test_of_an_expired_worker_are_its_own_until_another_takes_them(self):
        run, worker = plan(*HOSTS), leases.register_worker()
        held = leases.lease_lanes(run, worker)
        expire(worker)
        assert leases.lease_lanes(run, worker) == held
        assert not Lane.objects.exclude(takeovers=0).exists()

    def test_that_are_given_up_are_free_and_the_worker_is_gone(self):
        run, first, second = plan(*HOSTS), leases.register_worker(), leases.register_worker()
        held = leases.lease_lanes(run, first)
        leases.let_go(first)
        assert not Worker.objects.filter(pk=first).exists()
        assert leases.lease_lanes(run, second) == held


@pytest.mark.django_db(transaction=True)
class TestWorkersSideBySide:
    def test_never_hold_the_same_lane(self):
        for _ in range(5):
            run = plan(*HOSTS)
            workers = [leases.register_worker() for _ in range(4)]
            held = side_by_side(*(partial(leases.lease_lanes, run, worker) for worker in workers))
            assert sorted(lane for lanes in held for lane in lanes) == sorted(
                Lane.objects.filter(run=run).values_list("id", flat=True)
            )

    def test_take_over_an_expired_workers_lanes_once(self):
        run, dead = plan(*HOSTS), leases.register_worker()
        leases.lease_lanes(run, dead)
        expire(dead)
        workers = [leases.register_worker() for _ in range(4)]
        held = side_by_side(*(partial(leases.lease_lanes, run, worker) for worker in workers))
        assert sum(map(len, held)) == Lane.objects.count()
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
        assert Recorder(run, worker, fetcher_settings()).record([outcome(kept)]) == [kept.key.result]
