"""Scrapy as its documentation sets it up for broad crawls, with and without an item pipeline that saves to SQLite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import scrapy
from scrapy.crawler import CrawlerProcess

from tests.benchmarks.stacks.measuring import Job, Report, Watch
from tests.benchmarks.stacks.writer import BATCH, Row, RowStore


class _Listed(scrapy.Spider):
    name = "listed"
    answers = size = 0
    saving = False

    async def start(self) -> AsyncIterator[Any]:
        for url in self.urls:
            yield scrapy.Request(url, dont_filter=True)

    def parse(self, response: Any) -> Iterator[dict[str, Row]]:
        type(self).answers += response.status == 200
        type(self).size += len(response.body)
        if self.saving:
            headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, values in response.headers.items()
                for value in values
            ]
            elapsed = response.meta["download_latency"]
            host = urlsplit(response.url).hostname or ""
            started = time.time() - elapsed
            yield {"row": Row(response.url, host, response.status, headers, response.body, started, elapsed)}


class BatchPipeline:
    """Saves items a batch at a time."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._rows: list[Row] = []

    @classmethod
    def from_crawler(cls, crawler: Any) -> BatchPipeline:
        return cls(crawler.settings["SAVING_DIRECTORY"])

    def open_spider(self) -> None:
        self._store = RowStore(self._directory)

    def process_item(self, item: dict[str, Row]) -> dict[str, Row]:
        self._rows.append(item["row"])
        if len(self._rows) == BATCH:
            self._save()
        return item

    def close_spider(self) -> None:
        self._save()
        self._store.close()

    def _save(self) -> None:
        self._store.save(self._rows)
        self._rows = []


def scrapy_only(job: Job, watch: Watch) -> Report:
    """Fetch; of each answer only the size is kept."""
    return _crawl(job, watch, saving=False)


def scrapy_saving(job: Job, watch: Watch) -> Report:
    """Fetch and save through an item pipeline."""
    return _crawl(job, watch, saving=True)


def _crawl(job: Job, watch: Watch, *, saving: bool) -> Report:
    settings: dict[str, Any] = {
        "CONCURRENT_REQUESTS": job.in_flight,
        "CONCURRENT_REQUESTS_PER_DOMAIN": job.in_flight,
        "DOWNLOAD_DELAY": 0,
        "ROBOTSTXT_OBEY": False,
        "COOKIES_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "LOG_LEVEL": "ERROR",
    }
    if saving:
        settings |= {"ITEM_PIPELINES": {BatchPipeline: 300}, "SAVING_DIRECTORY": job.directory}
    process = CrawlerProcess(settings)
    process.crawl(_Listed, urls=job.urls(), saving=saving)
    watch.begin()
    process.start()
    return watch.end(_Listed.answers, _Listed.size)
