"""A queue in a real Redis, under a name of the test's own; and servers that take connections and say nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator

import pytest
import redis
from django_q.conf import Conf

from tests.support.processes import unavailable

URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/7")


@contextlib.contextmanager
def redis_queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """Have the queue in Redis while the block runs; gives a client. Skips where there is no Redis."""
    client = redis.from_url(URL, socket_connect_timeout=3)
    try:
        client.ping()
    except redis.RedisError as exc:
        unavailable(f"no Redis at {URL}: {exc}; set TEST_REDIS_URL")
    name = f"test-{uuid.uuid4().hex}"
    use_redis(monkeypatch, URL, name)
    with client:
        yield client
        client.delete(f"django_q:{name}:q")


def use_redis(monkeypatch: pytest.MonkeyPatch, url: str, name: str = "test") -> None:
    """Have django-q2 look for its queue at a URL."""
    monkeypatch.setattr(Conf, "ORM", None)
    monkeypatch.setattr(Conf, "REDIS", url)
    monkeypatch.setattr(Conf, "CLUSTER_NAME", name)
    monkeypatch.setattr(Conf, "BROKER_CLASS", "jobs.brokers.RedisBroker")


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Listen on a port, take connections, never answer; gives the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]
