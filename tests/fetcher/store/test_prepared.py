"""Runs from shards that were planned before."""

from __future__ import annotations

import pytest
from django.db.models import F

from fetcher.engine.config import FetchConfig
from fetcher.models import Lane, Run, Shard
from fetcher.options import RunOptions
from fetcher.store import runs
from fetcher.store.prepared import create_prepared
from tests.support.stored import open_targets, plan

pytestmark = pytest.mark.django_db
CONFIG, OPTIONS = FetchConfig(), RunOptions()
URLS = [f"http://h{number % 4}/{number}" for number in range(1_200)]


def shards_of(run: int):
    return Shard.objects.filter(run=run).annotate(number=F("lane__number"), part=F("lane__part"))


def test_targets_keep_their_order_lanes_and_counts():
    before = plan(*URLS)
    run = create_prepared(shards_of(before), CONFIG, OPTIONS)
    assert [target.url for target in open_targets(run)] == URLS
    lanes = [
        list(Lane.objects.filter(run=pk).order_by("number").values_list("number", "planned")) for pk in (before, run)
    ]
    assert lanes[0] == lanes[1]
    assert list(Shard.objects.filter(run=run).order_by("id").values_list("payload", flat=True)) == list(
        Shard.objects.filter(run=before).order_by("id").values_list("payload", flat=True)
    )


def test_nothing_of_it_is_left_to_be_planned():
    run = create_prepared(shards_of(plan("http://a/")), CONFIG, OPTIONS, label="news", job=(7, "news"))
    row = Run.objects.get(pk=run)
    assert (row.planned_at is not None, row.job_id, row.job_name, row.label) == (True, 7, "news", "news")
    assert runs.pending(run) == 1


def test_without_any_shard_it_is_completed_at_its_end():
    run = create_prepared(shards_of(0), CONFIG, OPTIONS)
    assert runs.finish(run) == "completed"


@pytest.mark.parametrize("secrets", [True, False])
def test_secrets_of_shards_are_expected_where_there_are_some(secrets):
    run = create_prepared(shards_of(plan("http://a/")), CONFIG, OPTIONS, secrets=secrets)
    assert (Run.objects.get(pk=run).secrets is not None) is secrets
