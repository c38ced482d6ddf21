"""Targets with a body that nothing refers to any more are removed, beside planners and lists."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections, transaction

from fetcher.engine.types import Target as Wanted
from fetcher.models import Target
from fetcher.sources import Entry
from fetcher.store import prune, runs
from fetcher.store.plan import Planner
from fetcher.store.request_bodies import prune_request_bodies
from jobs import lists
from jobs.store import begin_run, remove_job
from tests.support.jobs import CONFIG, OPTIONS, make_job
from tests.support.stored import open_targets, outcome, record

POST = Entry("list", 1, Wanted("http://a.example/", "a.example:80", "POST", body=b"password=s3cret"))
GET = Entry("list", 2, Wanted("http://a.example/", "a.example:80"))

pytestmark = pytest.mark.django_db(transaction=True)


def planned(*entries: Entry) -> int:
    run = runs.create_run(CONFIG)
    Planner(run).add(entries)
    runs.planned(run)
    return run


def fetched(*entries: Entry) -> int:
    run = planned(*entries)
    record(run, map(outcome, open_targets(run)))
    runs.finish(run)
    return run


def prune_all(*numbers: int) -> int:
    pruned = prune.Pruned()
    for run in numbers:
        prune.prune_run(run, pruned)
    prune_request_bodies(pruned)
    return pruned.targets


def test_target_with_a_body_goes_with_its_last_run() -> None:
    first, second = fetched(POST, GET), fetched(POST)
    assert prune_all(first) == 0
    assert prune_all(second) == 1
    assert [target.body for target in Target.objects.all()] == [None]


def test_target_that_waits_to_be_fetched_stays() -> None:
    fetched_run, waiting = fetched(POST), planned(POST)
    assert prune_all(fetched_run) == 0
    assert [target.body for target in open_targets(waiting)] == [b"password=s3cret"]


def test_target_of_a_saved_list_stays_until_the_list_goes() -> None:
    make_job(given=[POST])
    assert prune_all() == 0
    remove_job("news")
    assert prune_all() == 1


def test_target_of_a_run_that_copied_a_list_stays() -> None:
    make_job(given=[POST])
    with transaction.atomic():
        run = begin_run("news", CONFIG, OPTIONS)
    remove_job("news")
    assert prune_all() == 0
    assert len(open_targets(run)) == 1


def test_target_of_an_import_in_progress_stays() -> None:
    with lists.imported([POST], CONFIG, OPTIONS, source="list"):
        assert prune_all() == 0


def test_target_comes_back_when_it_is_planned_again() -> None:
    assert prune_all(fetched(POST)) == 1
    run = planned(POST)
    assert [target.body for target in open_targets(run)] == [b"password=s3cret"]


def test_nothing_is_read_where_no_target_is_left_over(django_assert_num_queries) -> None:
    fetched(POST, GET)
    with django_assert_num_queries(1):
        prune_request_bodies(prune.Pruned())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_target_that_is_just_being_planned_stays() -> None:
    """The planner has found the target, and what refers to it is not committed yet."""
    prune.prune_run(fetched(POST), prune.Pruned())
    run = runs.create_run(CONFIG)
    added, release = threading.Event(), threading.Event()

    def plan() -> None:
        with transaction.atomic():
            Planner(run).add([POST])
            added.set()
            release.wait(20)
        connections.close_all()

    thread = threading.Thread(target=plan)
    thread.start()
    try:
        assert added.wait(20)
        assert prune_all() == 0
    finally:
        release.set()
        thread.join(20)
    assert prune_all() == 0
    assert len(open_targets(run)) == 1
