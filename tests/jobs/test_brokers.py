"""A running cluster can be seen in the database."""

from __future__ import annotations

import os
import types
import uuid
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.conf import Conf
from django_q.signing import SignedPackage

from fetcher.dispatch import DispatchError
from jobs import brokers
from jobs.brokers import OrmBroker
from jobs.cluster import QCluster
from jobs.models import Cluster
from tests.support.commands import start
from tests.support.redis import URL, redis_queue, silent_server, use_redis
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db


class Guard:
    """What a cluster's guard does: it tells its broker how the cluster is."""

    def __init__(self) -> None:
        self.broker = OrmBroker()
        self.token = uuid.uuid4()

    def tell(self, status: Any = Conf.IDLE, workers: int = 2, replaced: int = 0) -> None:
        stat = types.SimpleNamespace(
            cluster_id=self.token, pid=17, status=status, workers=list(range(workers)), reincarnations=replaced
        )
        self.broker.set_stat(f"key:{self.token}", SignedPackage.dumps(stat, True), 3)


def test_is_noted_with_its_process():
    Guard().tell()
    row = Cluster.objects.get()
    assert (row.main_pid, row.pid, row.workers, row.stopping) == (17, os.getpid(), 2, False)


def test_is_written_only_now_and_then(django_assert_num_queries):
    guard = Guard()
    guard.tell()
    with django_assert_num_queries(0):
        guard.tell()
        guard.tell(Conf.WORKING)


@pytest.mark.parametrize(
    ("change", "values"),
    [
        pytest.param({"workers": 3}, {"workers": 3}, id="workers"),
        pytest.param({"status": Conf.STOPPING}, {"stopping": True}, id="stopping"),
    ],
)
def test_news_are_written_at_once(change, values):
    guard = Guard()
    guard.tell()
    guard.tell(**change)
    assert Cluster.objects.filter(**values).count() == 1


def test_that_stopped_is_forgotten():
    guard = Guard()
    guard.tell()
    guard.tell(Conf.STOPPED)
    assert not Cluster.objects.exists()


def test_one_that_vanished_is_forgotten_when_another_begins():
    Guard().tell()
    Cluster.objects.update(seen_at=timezone.now() - brokers.FORGOTTEN - timedelta(minutes=1))
    Guard().tell()
    assert Cluster.objects.count() == 1


def test_a_database_that_is_away_ends_no_cluster(monkeypatch, caplog):
    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(brokers, "_save", away)
    guard = Guard()
    guard.tell()
    guard.tell()
    assert [record.getMessage() for record in caplog.records] == ["that this cluster works cannot be noted: gone"]


def test_what_was_signed_by_somebody_else_is_passed_over():
    Guard().broker.set_stat("key", "nonsense", 3)
    assert not Cluster.objects.exists()


def test_a_redis_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(brokers, "SILENCE", 0.1)
    with silent_server() as port:
        use_redis(monkeypatch, f"redis://127.0.0.1:{port}/0")
        with pytest.raises(DispatchError, match="Timeout"):
            QCluster().check()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["orm", "redis"])
def test_a_real_cluster_comes_and_goes(kind, monkeypatch):
    with ExitStack() as stack:
        if kind == "redis":
            stack.enter_context(redis_queue(monkeypatch))
        environment = {"CLUSTER_WORKERS": "2", "REDIS_URL": URL if kind == "redis" else None}
        process = start("qcluster", env=environment, stdin=None, stdout=None, stderr=None)
        try:
            eventually(lambda: Cluster.objects.filter(workers=2).exists())
            assert Cluster.objects.get().main_pid == process.pid
            process.terminate()
            assert process.wait(20) == 0
            assert not Cluster.objects.exists()
        finally:
            process.kill()
            process.wait()
