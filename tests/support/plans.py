"""The queries that readers send, and how the database goes about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from fetcher import payloads
from fetcher.api import views
from fetcher.causes import any_of, parse_causes
from fetcher.engine.urls import parse_url
from fetcher.models import PLACES, Run
from fetcher.store.retry import failures
from tests.support.synthetic import Filled, host_name

LIMIT = 100
MANY = 1_000
"""More rows than this are not sorted for one page. Shards are five hundred times fewer than results."""
_LARGE = r"(?:fetcher_(?:result|target|body|representation)|U\d)"
_FIRST = re.compile('FROM "fetcher_result"')
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "status=succeeded": {"status": "succeeded"},
    "status=failed": {"status": "failed"},
    "status=skipped": {"status": "skipped"},
    "error_kind=timeout": {"error_kind": "timeout"},
    "http_status=200": {"http_status": 200},
    "http_status=404": {"http_status": 404},
    "http_status=418": {"http_status": 418},
    "host": {"host": (host_name(1),)},
    "host, status=failed": {"host": (host_name(1),), "status": "failed"},
    "changed=1": {"changed": True},
}
"""The filters of ``runs/{id}/results/``, as the view has parsed them."""


@dataclass(frozen=True)
class Plan:
    """One statement and its plan."""

    sql: str
    text: str

    @property
    def faults(self) -> list[str]:
        """Steps that read a large table as a whole, or sort many rows."""
        if connection.vendor == "sqlite":
            faults = re.findall(rf"SCAN {_LARGE}\b.*", self.text)
            return faults + (re.findall(r"USE TEMP B-TREE.*", self.text) if _FIRST.search(self.sql) else [])
        sorts = re.findall(r"Sort  \(cost=.* rows=(\d+)", self.text)
        return re.findall(rf"Seq Scan on {_LARGE}\b.*", self.text) + [rows for rows in sorts if int(rows) > MANY]


def plans_of(call: Callable[[], Any]) -> list[Plan]:
    """Call, and return the plans of the different statements that it sent."""
    with CaptureQueriesContext(connection) as queries:
        call()
    different = {re.sub(r"\d+(?:, \d+)*", "0", query["sql"]): query["sql"] for query in queries}
    return [Plan(sql, _explain(sql)) for sql in different.values() if sql.startswith("SELECT")]


def _explain(sql: str) -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            return "\n".join(row[3] for row in cursor.fetchall())
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(row[0] for row in cursor.fetchall())


def reads(filled: Filled) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each read of the API, and of failures to fetch again, and a function that does it."""
    run = filled.runs[len(filled.runs) // 2]
    first, last = edges(run)
    for name, given in FILTERS.items():
        for place, after in (("first", 0), ("middle", (first + last) // 2), ("last", last - PLACES)):
            yield f"results, {name}, {place} page", results_page(run, given, after)
    yield "a result", lambda: payloads.result_detail(first)
    yield "runs", lambda: payloads.run_items(Run.objects.order_by("-id")[: LIMIT + 1])
    yield "runs with failures", lambda: payloads.run_items(Run.objects.order_by("-id").with_failures()[: LIMIT + 1])
    for column in ("state", "label", "job_name"):
        yield f"runs by {column}", _runs(column)
    wanted = any_of(parse_causes("http_status:404"))
    for place, after in (("first", 0), ("last", last - PLACES)):
        yield f"failures to fetch again, {place}", partial(failures, run, wanted, after=after, limit=LIMIT)
    url = parse_url("https://host1.example/501")
    yield "latest", lambda: views._latest(url, good=False)
    yield "latest good", lambda: views._latest(url, good=True)


def _runs(column: str) -> Callable[[], Any]:
    return lambda: payloads.run_items(Run.objects.order_by("-id").filter(**{column: "completed"})[: LIMIT + 1])


def results_page(run: int, given: dict[str, Any], after: int) -> Callable[[], Any]:
    """Return the function that reads one page of a run's results, as the view does."""
    return lambda: views._result_page(run, views._reader(run, given), after, LIMIT, "results")


def edges(run: int) -> tuple[int, int]:
    """Return the first and last result id that a run can have."""
    shards = Run.objects.get(pk=run).shards.order_by("id").values_list("id", flat=True)
    found = list(shards)
    return found[0] * PLACES, found[-1] * PLACES + PLACES - 1
