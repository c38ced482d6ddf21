"""The traps of the queue's settings are refused, and the hint says what to write."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

OURS = "jobs.cluster.QCluster"
GOOD = {
    "name": "trawl", "timeout": 600, "retry": 660, "ack_failures": True, "max_attempts": 1, "save_limit": -1,
    "orm": "default",
}  # fmt: skip
GONE = object()


def found(*, deploy: bool = True) -> list[str]:
    """Return the ids of what is wrong with the jobs' settings."""
    messages = run_checks(tags=["jobs"], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    return [str(message.id) for message in messages]


def test_the_settings_of_this_project_are_fine() -> None:
    assert found() == []


# What is changed of settings that are fine, and what is said about it.
QUEUES = {
    "fine": ({}, []),
    "fine, with Redis": ({"orm": None, "redis": "redis://:secret@localhost:6379/3"}, []),
    "fine, with Redis by its parts": ({"orm": None, "redis": {"host": "localhost"}}, []),
    "fine, with another broker": ({"orm": None, "broker_class": "a.Broker"}, []),
    "fine, with the least timeout": ({"timeout": 150, "retry": 151}, []),
    "fine, saving all": ({"save_limit": 0}, []),
    "no timeout": ({"timeout": GONE}, ["jobs.E002"]),
    "a timeout of none": ({"timeout": None}, ["jobs.E002"]),
    "a timeout that is no whole number": ({"timeout": 600.0}, ["jobs.E002"]),
    "a timeout in words": ({"timeout": "600"}, ["jobs.E002"]),
    "a timeout within a slice": ({"timeout": 90}, ["jobs.E002"]),
    "a timeout that leaves no time for the usual deadline": ({"timeout": 149, "retry": 660}, ["jobs.E002"]),
    "no retry": ({"retry": GONE}, ["jobs.E003"]),
    "a retry as long as the timeout": ({"retry": 600}, ["jobs.E003"]),
    "a retry that is no whole number": ({"retry": 660.5}, ["jobs.E003"]),
    "tasks called at once": ({"sync": True}, ["jobs.E004"]),
    "a database that is not there": ({"orm": "queue"}, ["jobs.E006"]),
    "a URL of nothing known": ({"orm": None, "redis": "http://localhost"}, ["jobs.E006"]),
    "a URL of nothing known, for a broker of one's own": (
        {"orm": None, "broker_class": "a.Broker", "redis": "http://localhost"}, ["jobs.E006"],
    ),
    "a URL with a port in words": ({"orm": None, "redis": "redis://localhost:port/0"}, ["jobs.E006"]),
    "failures that come again": ({"ack_failures": False}, ["jobs.W001"]),
    "failures, by default": ({"ack_failures": GONE}, ["jobs.W001"]),
    "attempts without end": ({"max_attempts": 0}, ["jobs.W002"]),
    "attempts, by default": ({"max_attempts": GONE}, ["jobs.W002"]),
    "several attempts": ({"max_attempts": 3}, ["jobs.W002"]),
    "tasks that are kept": ({"save_limit": 100}, ["jobs.W003"]),
    "tasks that are kept, by default": ({"save_limit": GONE}, ["jobs.W003"]),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), QUEUES.values(), ids=QUEUES.keys())
def test_a_queue_with(settings: Settings, changes: dict[str, Any], expected: list[str]) -> None:
    queue = {name: value for name, value in {**GOOD, **changes}.items() if value is not GONE}
    settings.Q_CLUSTER = queue
    assert found() == expected
    assert found(deploy=False) == [name for name in expected if "E" in name.partition(".")[2]]


def test_no_settings_at_all_are_refused(settings: Settings) -> None:
    del settings.Q_CLUSTER
    assert found(deploy=False) == ["jobs.E002"]


@pytest.mark.parametrize("url", ["http://:hidden@localhost", "redis://:hidden@localhost:port"])
def test_a_password_is_not_repeated(settings: Settings, url: str) -> None:
    settings.Q_CLUSTER = {**GOOD, "orm": None, "redis": url}
    (message,) = run_checks(tags=["jobs"])
    assert "hidden" not in f"{message.msg}{message.hint}"


def test_redis_without_its_package_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.Q_CLUSTER = {**GOOD, "orm": None, "redis": "redis://localhost"}
    monkeypatch.setitem(sys.modules, "redis", None)
    assert found() == ["jobs.E006"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (OURS, []),
        ("", ["jobs.W005"]),
        ("jobs.cluster.Nothing", ["jobs.E005"]),
        ("nowhere", ["jobs.E005"]),
        ("jobs.cluster.redis_address", ["jobs.E005"]),
        ("jobs.store.JobBusy", ["jobs.E005"]),
    ],
)
def test_a_dispatcher_that(settings: Settings, path: str, expected: list[str]) -> None:
    settings.FETCHER_DISPATCHER = path
    assert found() == expected


def test_another_dispatcher_may_have_another_queue(settings: Settings) -> None:
    settings.FETCHER_DISPATCHER = "unittest.mock.Mock"
    settings.Q_CLUSTER = {"sync": True}
    assert found() == []


@pytest.mark.parametrize(
    ("command", "database", "expected"),
    [
        ("qcluster", {"CONN_MAX_AGE": None}, []),
        ("qcluster", {"CONN_MAX_AGE": 600}, []),
        ("qcluster", {"CONN_MAX_AGE": 0}, ["jobs.W004"]),
        ("qcluster", {"CONN_MAX_AGE": None, "OPTIONS": {"pool": True}}, ["jobs.E007"]),
        ("serve", {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": True}}, []),
    ],
)
def test_connections_of_the_cluster(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: str, database: dict[str, Any], expected: list[str]
) -> None:
    for name, value in database.items():
        monkeypatch.setitem(settings.DATABASES["default"], name, value)
    monkeypatch.setattr(sys, "argv", ["manage.py", command])
    settings.Q_CLUSTER = GOOD
    assert found(deploy=False) == expected


def test_connections_matter_less_where_redis_has_the_queue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["manage.py", "qcluster"])
    settings.Q_CLUSTER = {**GOOD, "orm": None, "redis": "redis://localhost"}
    assert found() == []
