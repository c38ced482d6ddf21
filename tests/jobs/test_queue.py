"""What waits is told, and stays where it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

from jobs.queue import read_queue
from tests.support.processes import free_port
from tests.support.redis import redis_queue, silent_server, use_redis

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["orm", "redis"])
def kind(request, monkeypatch):
    if request.param == "orm":
        yield "orm"
        return
    with redis_queue(monkeypatch):
        yield "redis"


def later(seconds: float):
    return timezone.now() + timedelta(seconds=seconds)


class TestQueue:
    def test_that_is_empty(self, kind):
        found = read_queue()
        assert (found.kind, found.waiting, found.oldest_s, found.error) == (kind, 0, None, None)

    def test_tells_how_long_the_oldest_message_waits_and_takes_none(self, kind):
        async_task("jobs.tasks.work", 1)
        async_task("jobs.tasks.work", 2)
        for _ in range(2):
            found = read_queue(later(90))
            assert found.waiting == 2
            assert 89 < found.oldest_s < 95

    def test_of_another_secret_key_is_an_error(self, kind, monkeypatch):
        async_task("jobs.tasks.work", 1)
        monkeypatch.setattr(Conf, "SECRET_KEY", "another")
        assert "signed with another SECRET_KEY" in read_queue(later(1)).error


class TestDatabase:
    def test_tells_what_is_being_worked_on(self):
        async_task("jobs.tasks.work", 1)
        OrmQ.objects.update(lock=later(Conf.RETRY - 30))
        found = read_queue()
        assert (found.waiting, found.taken, found.oldest_s) == (0, 1, None)
        assert 30 <= found.taken_s < 40

    def test_passes_over_other_clusters_messages(self, monkeypatch):
        async_task("jobs.tasks.work", 1)
        monkeypatch.setattr(Conf, "CLUSTER_NAME", "another")
        assert read_queue(later(1)).waiting == 0


class TestRedis:
    def test_that_is_away_is_named_without_its_password(self, monkeypatch):
        port = free_port()
        use_redis(monkeypatch, f"redis://user:s3cret@127.0.0.1:{port}/0")
        found = read_queue()
        assert f"Redis at 127.0.0.1:{port}" in found.error
        assert "s3cret" not in f"{found}"

    def test_that_says_nothing_is_given_up(self, monkeypatch):
        with silent_server() as port:
            use_redis(monkeypatch, f"redis://127.0.0.1:{port}/0")
            assert "Timeout" in read_queue(patience=0.1).error
