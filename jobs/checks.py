"""Mistakes in the settings of the cluster, found by ``manage.py check`` and before every command.

What cannot work is an error and is looked for always; what is slower or less safe than it could be is a warning of
``check --deploy`` (``fetcher.checks`` says why). What matters to the processes of ``qcluster`` only, whose settings may
be others, is looked for when these begin. A project whose ``FETCHER_DISPATCHER`` is not ours may set its queue up as it
likes.
"""

from __future__ import annotations

import math
import sys
from typing import Any, TypeGuard

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name)
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from fetcher import conf
from fetcher.dispatch import Dispatcher
from fetcher.engine.config import ConfigError
from fetcher.slices import RESERVE, SLICE

OURS = "jobs.cluster.QCluster"
_REDIS_URL = "Write redis://:password@host:6379/0, rediss://… with TLS, or unix:///path/to/socket."
_OTHER_BROKERS = ("broker_class", "iron_mq", "sqs", "mongo")


@register("jobs")
def check_queue_is_installed(**kwargs: Any) -> list[CheckMessage]:
    """E001: the app that the queue and the schedules are of is missing."""
    if apps.is_installed("django_q"):
        return []
    return [
        Error(
            "INSTALLED_APPS has jobs, but not django_q",
            hint='Add "django_q" to it and run migrate.',
            id="jobs.E001",
        )
    ]


@register("jobs")
def check_dispatcher(**kwargs: Any) -> list[CheckMessage]:
    """E005: what should wake the cluster cannot be imported."""
    path = _dispatcher()
    if not path:
        return []
    try:
        if not isinstance(import_string(path)(), Dispatcher):
            raise TypeError("it is no dispatcher")
    except Exception as exc:  # noqa: BLE001  (whatever happens in a module that we do not know)
        return [
            Error(
                f"FETCHER_DISPATCHER is {path!r}, which cannot be used: {exc}",
                hint=f'Write FETCHER_DISPATCHER = "{OURS}", or "" where there is no cluster.',
                id="jobs.E005",
            )
        ]
    return []


@register("jobs")
def check_times(**kwargs: Any) -> list[CheckMessage]:
    """E002, E003: the queue takes a task for hung or lost while it is at work."""
    if not _is_ours():
        return []
    queue, least = _queue(), SLICE + RESERVE
    timeout, retry = queue.get("timeout"), queue.get("retry", 60)
    if not _is_whole(timeout) or timeout <= least:
        return [
            Error(
                f'Q_CLUSTER["timeout"] is {timeout!r}: a task takes up to {SLICE:g} seconds and the attempts that are '
                f"in flight then, and {RESERVE:g} are kept in reserve",
                hint='Write a whole number of seconds, such as Q_CLUSTER["timeout"] = 600.',
                id="jobs.E002",
            )
        ]
    found: list[CheckMessage] = []
    deadline = _deadline()
    if timeout < (enough := math.ceil(least + deadline)):
        found.append(
            Error(
                f'Q_CLUSTER["timeout"] is {timeout}, which leaves {timeout - least:g} seconds for an attempt, and '
                f"FETCHER_DEADLINE allows {deadline:g}: the cluster would take no run with the usual options",
                hint=f'Write Q_CLUSTER["timeout"] = {enough} or more, or a shorter FETCHER_DEADLINE.',
                id="jobs.E002",
            )
        )
    if not _is_whole(retry) or retry <= timeout:
        found.append(
            Error(
                f'Q_CLUSTER["retry"] is {retry!r}, not above the timeout of {timeout}: a task that is still at work '
                "would be given to a second worker",
                hint=f'Write Q_CLUSTER["retry"] = {timeout + 60}.',
                id="jobs.E003",
            )
        )
    return found


@register("jobs")
def check_sync(**kwargs: Any) -> list[CheckMessage]:
    """E004: tasks are called where they should be queued."""
    if not _is_ours() or not _queue().get("sync"):
        return []
    return [
        Error(
            'Q_CLUSTER["sync"] is on: whoever gives work to the cluster would have to do it, within what it is doing',
            hint='Remove "sync" from Q_CLUSTER; to fetch without a cluster, call fetch_urls or run_job.',
            id="jobs.E004",
        )
    ]


@register("jobs")
def check_broker(**kwargs: Any) -> list[CheckMessage]:
    """E006: the queue is nowhere, or cannot be read."""
    if not _is_ours():
        return []
    queue = _queue()
    if alias := queue.get("orm"):
        if alias in settings.DATABASES:
            return []
        return [
            Error(
                f'Q_CLUSTER["orm"] is {alias!r}, which DATABASES does not have',
                hint=f'Write Q_CLUSTER["orm"] = "{DEFAULT_DB_ALIAS}".',
                id="jobs.E006",
            )
        ]
    url = queue.get("redis")
    if not url and any(queue.get(name) for name in _OTHER_BROKERS):
        return []
    try:
        from redis import ConnectionPool
    except ImportError:
        return [
            Error(
                "the queue is in Redis, but the package redis is not installed",
                hint='Install it (pip install redis), or write Q_CLUSTER["orm"] = "default" to have the queue in the '
                "database.",
                id="jobs.E006",
            )
        ]
    if not isinstance(url, str):
        return []
    try:
        ConnectionPool.from_url(url)
    except ValueError:
        # It may hold a password: its value is not repeated.
        return [Error("REDIS_URL cannot be read", hint=_REDIS_URL, id="jobs.E006")]
    return []


@register("jobs")
def check_connections(**kwargs: Any) -> list[CheckMessage]:
    """E007, W004: what the cluster's processes have for connections."""
    if not _is_ours() or sys.argv[1:2] != ["qcluster"]:
        return []
    found: list[CheckMessage] = []
    for alias, database in settings.DATABASES.items():
        if database.get("OPTIONS", {}).get("pool"):
            found.append(
                Error(
                    f'DATABASES["{alias}"] has a pool, and qcluster hangs when it replaces a worker that uses one',
                    hint='Leave OPTIONS["pool"] out in the processes of qcluster (sys.argv[1:2] == ["qcluster"], as '
                    "settings/base.py looks), and set CONN_MAX_AGE = None there.",
                    id="jobs.E007",
                )
            )
    queue = _queue().get("orm")
    if queue in settings.DATABASES and settings.DATABASES[queue].get("CONN_MAX_AGE", 0) == 0:
        found.append(
            Warning(
                f'CONN_MAX_AGE of DATABASES["{queue}"] is 0, and the queue in it is many times slower where each look '
                "opens a connection",
                hint='Set CONN_MAX_AGE = None in the processes of qcluster (sys.argv[1:2] == ["qcluster"]).',
                id="jobs.W004",
            )
        )
    return found


@register("jobs", deploy=True)
def check_failures(**kwargs: Any) -> list[CheckMessage]:
    """W001, W002: the queue repeats what failed, which the sweep does with more care."""
    if not _is_ours():
        return []
    found: list[CheckMessage] = []
    if not _queue().get("ack_failures"):
        found.append(
            Warning(
                'Q_CLUSTER["ack_failures"] is off: a message whose task failed stays in the queue and comes again',
                hint='Write Q_CLUSTER["ack_failures"] = True; every run is looked after once a minute without it.',
                id="jobs.W001",
            )
        )
    attempts = _queue().get("max_attempts", 0)
    if attempts != 1:
        found.append(
            Warning(
                f'Q_CLUSTER["max_attempts"] is {attempts!r}{"" if attempts else ", which is without end"}: a task at '
                "which workers die is given to one after the other",
                hint='Write Q_CLUSTER["max_attempts"] = 1.',
                id="jobs.W002",
            )
        )
    return found


@register("jobs", deploy=True)
def check_saved_tasks(**kwargs: Any) -> list[CheckMessage]:
    """W003: the queue counts the tasks that it saved after each one."""
    limit = _queue().get("save_limit", 250)
    if not _is_ours() or limit <= 0:
        return []
    return [
        Warning(
            f'Q_CLUSTER["save_limit"] is {limit}: keeping to it makes the queue eight times slower',
            hint='Write Q_CLUSTER["save_limit"] = -1, which saves only what failed.',
            id="jobs.W003",
        )
    ]


@register("jobs", deploy=True)
def check_jobs_fire(**kwargs: Any) -> list[CheckMessage]:
    """W005: schedules are kept, and nobody fetches."""
    if _dispatcher() != "":
        return []
    return [
        Warning(
            "FETCHER_DISPATCHER is not set: jobs do not fire by themselves",
            hint=f'Write FETCHER_DISPATCHER = "{OURS}" and run manage.py qcluster; or call manage.py run_job from a '
            "crontab, and silence this one.",
            id="jobs.W005",
        )
    ]


def _queue() -> dict[str, Any]:
    return getattr(settings, "Q_CLUSTER", None) or {}


def _dispatcher() -> str | None:
    """Return the dispatcher's path, None where the settings cannot be read, which fetcher.E001 says."""
    try:
        return conf.fetcher_settings().dispatcher
    except ConfigError:
        return None


def _deadline() -> float:
    try:
        return conf.fetch_config().deadline
    except ConfigError:
        return 0.0


def _is_ours() -> bool:
    return _dispatcher() == OURS and apps.is_installed("django_q")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
