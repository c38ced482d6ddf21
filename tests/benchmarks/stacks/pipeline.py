"""Trawl with its database, in this process: a list is planned, fetched and saved on SQLite."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from tests.benchmarks.stacks.measuring import Job, Report, Watch


def planned_before(job: Job, watch: Watch) -> Report:
    """Fetch and save what was planned before: the pipeline alone, as a job's run does it."""
    _set_up(job)
    from django.db import connection
    from django.db.models import F

    from fetcher.conf import fetch_config
    from fetcher.models import Shard
    from fetcher.options import RunOptions
    from fetcher.service import fetch_prepared
    from fetcher.sources import open_lines
    from fetcher.store import runs
    from fetcher.store.plan import Planner
    from fetcher.store.prepared import create_prepared

    config, options = fetch_config(), RunOptions()
    planner = Planner(runs.create_run(config, options))
    planner.add(list(open_lines(job.listing)))
    connection.close()
    shards = Shard.objects.filter(run=planner.run).annotate(number=F("lane__number"), part=F("lane__part"))
    create = partial(create_prepared, shards, config, options)
    return _measured(watch, lambda listener: fetch_prepared(create, config, options, listener=listener))


def planned_beside(job: Job, watch: Watch) -> Report:
    """Plan, fetch and save at the same time, as ``fetch_urls`` does."""
    _set_up(job)
    from fetcher.conf import fetch_config
    from fetcher.service import fetch_list
    from fetcher.sources import open_lines

    config = fetch_config()
    return _measured(watch, lambda listener: fetch_list(open_lines(job.listing), config, listener=listener))


def _set_up(job: Job) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "settings.dev",
        "DATABASE_URL": f"sqlite:///{job.directory}/db.sqlite3",
        "MEDIA_ROOT": f"{job.directory}/media",
        "FETCHER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "FETCHER_CONCURRENCY": str(job.in_flight),
        "FETCHER_PER_HOST": str(job.in_flight),
    }
    import django

    django.setup()


def _measured(watch: Watch, fetch: Callable[[Any], Coroutine[Any, Any, str]]) -> Report:
    from fetcher.listener import Listener

    listener = Listener()
    watch.begin()
    asyncio.run(fetch(listener))
    progress = listener.progress
    return watch.end(progress.statuses["succeeded"], progress.bytes)
