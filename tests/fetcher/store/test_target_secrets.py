"""Secrets in targets' own headers: sealed in the shards while the run goes on, wiped when it is over."""

from __future__ import annotations

import pytest

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.engine.types import Target as Wanted
from fetcher.models import Run, Shard, Target
from fetcher.sources import Entry
from fetcher.store import runs
from fetcher.store.plan import Planner
from fetcher.store.shards import decode_payload
from tests.support.stored import open_targets, outcome, record

URL, HOST = "http://a.example/", "a.example:80"
LITERAL = (
    ("X-A", "1"),
    ("Authorization", "Bearer s3cret"),
    ("Cookie", EnvReference("SESSION")),
    ("cookie", "b=s3cret"),
)

pytestmark = pytest.mark.django_db


def planned(*own, config: FetchConfig | None = None) -> int:
    config = config or FetchConfig()
    run = runs.create_run(config)
    Planner(run, config=config).add(
        [Entry("list", line, Wanted(URL, HOST, headers=headers)) for line, headers in enumerate(own, 1)]
    )
    runs.planned(run)
    return run


def test_the_table_of_targets_has_names_without_values():
    planned(LITERAL)
    assert Target.objects.get().headers == [
        ["X-A", "1"], ["Authorization", None], ["Cookie", {"env": "SESSION"}], ["cookie", None]
    ]  # fmt: skip


def test_what_is_sent_has_the_values_again():
    run = planned((), LITERAL, (("Authorization", "other"),))
    assert [target.headers for target in open_targets(run)] == [(), LITERAL, (("Authorization", "other"),)]


def test_the_shard_holds_nothing_in_clear():
    planned(LITERAL)
    payload = decode_payload(bytes(Shard.objects.get().payload))
    assert payload.sealed
    assert b"s3cret" not in payload.sealed


def test_a_header_that_is_secret_by_configuration_is_sealed_too():
    config = FetchConfig(secret_headers=frozenset({"x-token"}))
    run = planned((("X-Token", "s3cret"),), config=config)
    assert Target.objects.get().headers == [["X-Token", None]]
    assert open_targets(run, config=config)[0].headers == (("X-Token", "s3cret"),)


def test_other_credentials_are_another_target():
    planned((("Authorization", "one"),), (("Authorization", "two"),))
    assert Target.objects.count() == 2


def test_a_run_that_is_over_has_none_left():
    run = planned(LITERAL)
    record(run, map(outcome, open_targets(run)))
    assert runs.finish(run) == "completed"
    assert decode_payload(bytes(Shard.objects.get().payload)).sealed is None
    assert Run.objects.get().secrets is None


def test_an_interrupted_run_keeps_them():
    run = planned(LITERAL)
    assert runs.finish(run) == "interrupted"
    assert open_targets(run)[0].headers == LITERAL
    assert runs.load_config(Run.objects.get()) == FetchConfig()


def test_a_secret_that_was_wiped_is_never_replaced_by_something_else():
    run = planned(LITERAL)
    runs.finish(run, failed=True)
    values = [value for name, value in open_targets(run)[0].headers if name == "Authorization"]
    assert values == [None]


def test_runs_without_them_have_nothing_to_wipe():
    run = planned((("X-A", "1"),))
    assert Run.objects.get(pk=run).secrets is None


def test_retry_travels_with_the_run_and_not_with_the_target():
    for retry in (True, False):
        run = runs.create_run(FetchConfig())
        Planner(run).add([Entry("list", 1, Wanted(URL, HOST, "POST", body=b"x", retry=retry))])
        assert [target.retry for target in open_targets(run)] == [retry]
    assert Target.objects.count() == 1
