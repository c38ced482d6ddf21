"""A run's results, each found once while others save them."""

from __future__ import annotations

import pytest

from fetcher.models import PLACES, Result, Shard
from fetcher.store import runs
from fetcher.store.news import NewResults
from fetcher.store.plan import Planner
from tests.support.stored import CONFIG, entries, open_targets, outcome, plan, record

pytestmark = pytest.mark.django_db


def found(news: NewResults) -> list[int]:
    return [number for ids in news.look() for number in ids]


def record_some(run: int, places: slice) -> set[int]:
    """Record some of the targets that are open, and return the ids of their results."""
    return set(record(run, [outcome(target) for target in open_targets(run)[places]]))


def all_ids() -> list[int]:
    return sorted(Result.objects.values_list("id", flat=True))


URLS = [f"http://h{number % 7}.example/{number}" for number in range(60)]


def test_each_is_found_once_in_whatever_order_it_is_saved():
    run = plan(*URLS)
    news = NewResults(run)
    assert found(news) == []
    seen: list[int] = []
    for places in (slice(40, 45), slice(0, 3), slice(-5, None), slice(None, None, 3), slice(None)):
        fresh = record_some(run, places)
        new = found(news)
        assert set(new) == fresh
        seen += new
    assert sorted(seen) == all_ids()
    assert found(news) == []


def test_also_in_shards_that_are_planned_later():
    run = runs.create_run(CONFIG)
    planner = Planner(run)
    news = NewResults(run)
    for first in range(0, 60, 20):
        planner.add(entries(*URLS[first : first + 20]))
        fresh = record_some(run, slice(5, None))
        assert set(found(news)) == fresh
    rest = record_some(run, slice(None))
    assert set(found(news)) == rest
    assert Shard.objects.count() > 7


def test_of_another_run_none_is_found():
    run = plan(*URLS[:5])
    record_some(plan(*URLS), slice(None))
    assert found(NewResults(run)) == []


def test_what_was_there_is_passed_over_where_that_is_asked_for():
    run = plan(*URLS)
    record_some(run, slice(None, None, 2))
    news = NewResults(run)
    news.pass_over()
    assert found(news) == []
    rest = record_some(run, slice(None))
    assert set(found(news)) == rest


def test_what_was_not_taken_is_found_again():
    """Who asks may fail while it looks at what was found."""
    run = plan(*URLS[:5])
    record_some(run, slice(None))
    news = NewResults(run)
    next(iter(news.look()))
    assert sorted(found(news)) == all_ids()


def test_no_more_is_remembered_than_is_in_progress():
    run = plan(*URLS)
    news = NewResults(run)
    record_some(run, slice(None))
    found(news)
    assert all(not lane.told for lane in news._lanes.values())
    shards = dict(Shard.objects.values_list("lane", "id"))
    assert {pk: lane.first for pk, lane in news._lanes.items()} == {pk: shard + 1 for pk, shard in shards.items()}
    assert all(number // PLACES in shards.values() for number in all_ids())
