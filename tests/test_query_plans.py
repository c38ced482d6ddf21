"""Whatever a list of the API reads, it reads by an index: on each kind of database, at a size where that is decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from tests.support.plans import FILTERS, Plan, plans_of, reads
from tests.support.synthetic import Filled, fill

pytestmark = pytest.mark.django_db

RUNS, RESULTS = 4, 50_000


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: Any) -> Iterator[Filled]:
    """Two hundred thousand results, gone again after the last test here.

    Their references are checked here, and not, as they would be otherwise, anew at the end of each test.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        found = fill(runs=RUNS, results=RESULTS)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        yield found
        transaction.set_rollback(True)


PLACES_READ = [f"results, {name}, {place} page" for name in FILTERS for place in ("first", "middle", "last")]


@pytest.mark.parametrize(
    "name",
    [
        *PLACES_READ,
        "a result",
        "failures to fetch again, first",
        "failures to fetch again, last",
        "runs",
        "runs with failures",
        "runs by state",
        "runs by label",
        "runs by job_name",
        "latest",
        "latest good",
    ],
)
def test_reads_no_large_table_as_a_whole(filled: Filled, name: str) -> None:
    plans = plans_of(dict(reads(filled))[name])

    assert plans
    for plan in plans:
        assert not plan.faults, f"{plan.sql}\n{plan.text}"


def test_a_scan_and_a_sort_would_be_noticed(filled: Filled) -> None:
    from fetcher.models import Result

    (by_label,) = plans_of(lambda: list(Result.objects.filter(label="x").only("id")))
    (by_bytes,) = plans_of(lambda: list(Result.objects.order_by("bytes").only("id")[:5]))

    assert isinstance(by_label, Plan)
    assert by_label.faults, by_label.text
    assert by_bytes.faults, by_bytes.text


def test_the_database_is_asked_at_all(filled: Filled) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM fetcher_result")
        assert cursor.fetchone() == (RUNS * RESULTS,)
