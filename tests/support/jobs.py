"""Jobs saved through the store itself."""

from __future__ import annotations

from typing import Any

from fetcher.engine.config import FetchConfig
from fetcher.options import RunOptions
from fetcher.sources import Entry
from jobs import store
from jobs.lists import imported
from jobs.models import Job
from jobs.schedules import Schedule
from tests.support.stored import entries

CONFIG = FetchConfig()
OPTIONS = RunOptions()


def make_job(
    name: str = "news",
    *urls: str,
    given: list[Entry] | None = None,
    config: FetchConfig = CONFIG,
    options: RunOptions = OPTIONS,
    schedule: Schedule | None = None,
    **policies: Any,
) -> Job:
    found = given or entries(*(urls or ("http://a/1", "http://b/2")))
    with imported(found, config, options, source="list") as target_list:
        return store.create_job(name, target_list, store.Wanted(config, options, schedule, policies))
