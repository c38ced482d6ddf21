"""What failed in one run becomes the targets of another."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from django.db import DatabaseError, OperationalError

from fetcher.causes import parse_causes
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status
from fetcher.engine.types import Target as Wanted
from fetcher.models import PLACES, SHARD_SIZE, Lane, Result, Run, Shard, Target
from fetcher.options import RunOptions
from fetcher.secrets import UnsealError
from fetcher.sources import Entry, SourceError
from fetcher.store import retry, runs
from fetcher.store.lanes import Planned, ShardWriter
from fetcher.store.plan import Planner
from fetcher.store.prune import Pruned, prune_run
from fetcher.store.retry import PlanLost, RetryPlanner, create_retry, has_failures
from fetcher.store.shards import decode_payload
from fetcher.store.sql import insert_rows
from tests.support.stored import CONFIG, entries, open_targets, outcome, record

FAILED = {"status": Status.FAILED, "error_kind": ErrorKind.TIMEOUT, "error_detail": "late", "body": None}
DNS = {**FAILED, "error_kind": ErrorKind.DNS}
GONE = {**FAILED, "error_kind": ErrorKind.HTTP_STATUS, "http_status": 404}
SKIPPED = {**FAILED, "status": Status.SKIPPED}
OWN = (("X-A", "1"), ("Authorization", "Bearer s3cret"))

pytestmark = pytest.mark.django_db


def parent(*given: Entry, endings: list[dict], over: bool = True) -> int:
    """Make a run of entries, the outcomes of its targets ending like this, and return it."""
    run = runs.create_run(CONFIG)
    Planner(run).add(list(given))
    runs.planned(run)
    record(run, [outcome(target, **ending) for target, ending in zip(open_targets(run), endings, strict=False)])
    if over:
        runs.finish(run)
    return run


def of_hosts(*endings: dict, hosts: int = 3) -> int:
    """Make a run with these endings, over so many hosts in turn."""
    urls = [f"http://h{number % hosts}.example/{number}" for number in range(len(endings))]
    return parent(*entries(*urls), endings=list(endings))


def retried(run: int, causes: str = "") -> int:
    return create_retry(run, parse_causes(causes) if causes else (), CONFIG, RunOptions())


def plan_all(planner: RetryPlanner) -> int:
    """Plan to the end and return the number of steps."""
    steps = 0
    while planner.add_more() is not None:
        steps += 1
    return steps


def planned_urls(run: int) -> list[str]:
    return [target.url for target in open_targets(run)]


class TestWhatIsPlanned:
    def test_is_what_failed_or_was_skipped(self):
        run = retried(of_hosts({}, FAILED, SKIPPED, {}, GONE))
        plan_all(RetryPlanner(run))
        assert planned_urls(run) == ["http://h1.example/1", "http://h2.example/2", "http://h1.example/4"]

    def test_is_chosen_by_cause(self):
        run = retried(of_hosts(FAILED, DNS, GONE, DNS), "dns,http_status:404")
        plan_all(RetryPlanner(run))
        assert planned_urls(run) == ["http://h1.example/1", "http://h2.example/2", "http://h0.example/3"]

    def test_are_the_same_targets(self):
        before = of_hosts(FAILED, FAILED)
        plan_all(RetryPlanner(retried(before)))
        assert Target.objects.count() == 2

    def test_keeps_positions_labels_and_leave_to_retry(self):
        given = [
            Entry("list", line, Wanted(f"http://a/{line}", "a:80", "POST", label=label, retry=retry))
            for line, (label, retry) in enumerate([("one", True), (None, True), ("three", False), ("four", True)])
        ]
        run = retried(parent(*given, endings=[{}, FAILED, FAILED, FAILED]))
        plan_all(RetryPlanner(run))
        found = [(target.key.position, target.label, target.retry, target.method) for target in open_targets(run)]
        assert found == [(1, None, True, "POST"), (2, "three", False, "POST"), (3, "four", True, "POST")]

    def test_counts_in_its_lanes_and_by_host(self):
        planner = RetryPlanner(retried(of_hosts(*[FAILED] * 5, {}, hosts=2)))
        assert planner.add_more() == Counter({"h0.example:80": 3, "h1.example:80": 2})
        assert planner.add_more() is None
        assert (planner.accepted, planner.duplicates, planner.rejected) == (5, 0, 0)
        assert runs.pending(planner.run) == 5

    def test_spreads_a_host_over_as_many_lanes_as_asked(self):
        planner = RetryPlanner(retried(of_hosts(*[FAILED] * 5, hosts=1)), split=2)
        plan_all(planner)
        parts = Lane.objects.filter(run=planner.run).order_by("part").values_list("part", "planned")
        assert list(parts) == [(0, 3), (1, 2)]

    def test_is_nothing_where_no_cause_matches(self):
        planner = RetryPlanner(retried(of_hosts(FAILED), "tls"))
        assert planner.add_more() == Counter()
        assert planner.add_more() is None
        assert not Lane.objects.filter(run=planner.run).exists()

    def test_can_be_what_failed_again(self):
        second = retried(of_hosts(FAILED, FAILED, {}))
        plan_all(RetryPlanner(second))
        runs.planned(second)
        record(
            second, [outcome(target, **ending) for target, ending in zip(open_targets(second), ({}, GONE), strict=True)]
        )
        third = retried(second)
        plan_all(RetryPlanner(third))
        assert planned_urls(third) == ["http://h1.example/1"]


class TestHasFailures:
    @pytest.mark.parametrize(("causes", "expected"), [("", True), ("timeout", True), ("dns,tls", False)])
    def test_by_cause(self, causes, expected):
        run = of_hosts({}, FAILED)
        assert has_failures(run, parse_causes(causes) if causes else ()) is expected

    def test_of_another_run_do_not_count(self):
        of_hosts(FAILED)
        assert not has_failures(of_hosts({}), ())


class TestTheRun:
    def test_says_what_it_was_made_from(self):
        before = of_hosts(DNS)
        row = Run.objects.get(pk=create_retry(before, parse_causes("dns,tls"), CONFIG, RunOptions(), label="again"))
        assert (row.parent_id, row.label, row.source) == (before, "again", f"failures of run {before} (dns, tls)")
        assert row.inputs == [{"kind": "retry", "run": before, "causes": ["dns", "tls"]}]


class TestSecrets:
    def entry(self) -> Entry:
        return Entry("list", 1, Wanted("http://a/", "a:80", headers=OWN))

    def test_that_are_still_stored_are_carried_over(self):
        other = Entry("list", 2, Wanted("http://a/2", "a:80", headers=(("Cookie", "s3cret"),)))
        before = parent(
            other, self.entry(), Entry("list", 3, Wanted("http://a/3", "a:80")), endings=[{}, FAILED], over=False
        )
        run = retried(before)
        plan_all(RetryPlanner(run))
        assert [target.headers for target in open_targets(run)] == [OWN]
        stored = decode_payload(bytes(Shard.objects.get(run=run).payload))
        assert b"s3cret" not in (stored.sealed or b"")
        assert Run.objects.get(pk=run).secrets is not None  # so that they are wiped when it is over

    def test_that_were_wiped_are_not_replaced_by_something_else(self):
        run = retried(parent(self.entry(), endings=[FAILED]))
        plan_all(RetryPlanner(run))
        assert open_targets(run)[0].headers == (("X-A", "1"), ("Authorization", None))

    def test_that_another_key_sealed_are_a_clear_error(self, settings):
        run = retried(parent(self.entry(), endings=[FAILED], over=False))
        settings.SECRET_KEY = "another"
        with pytest.raises(UnsealError):
            RetryPlanner(run).add_more()


@pytest.fixture
def windows(monkeypatch):
    """Two results in each transaction."""
    monkeypatch.setattr(retry, "WINDOW", 2)


@pytest.mark.usefixtures("windows")
class TestGoingOn:
    def test_another_planner_goes_on_from_what_is_committed(self):
        run = retried(of_hosts(*[FAILED] * 5))
        first = RetryPlanner(run)
        first.add_more()
        second = RetryPlanner(run)
        assert second.accepted == 2
        assert plan_all(second) == 2
        assert second.accepted == 5
        assert planned_urls(run) == [f"http://h{number % 3}.example/{number}" for number in range(5)]

    def test_the_cursor_is_committed_with_the_targets(self):
        before = of_hosts(FAILED, {}, FAILED, FAILED)
        run = retried(before)
        RetryPlanner(run).add_more()
        row = Run.objects.get(pk=run)
        second = Result.objects.unsuccessful().filter(run=before).order_by("id").values_list("id", flat=True)[1]
        assert (row.read, row.source_offset) == (2, {"after": second})

    def test_results_of_other_causes_are_accounted_for_too(self):
        run = retried(of_hosts(*[FAILED] * 4, DNS), "dns")
        planner = RetryPlanner(run)
        steps = [planner.add_more() for _ in range(3)]
        assert sum(step.total() for step in steps) == 1
        assert (RetryPlanner(run).add_more(), Run.objects.get(pk=run).read) == (None, 5)

    def test_a_run_that_is_gone_is_an_error_and_not_an_end(self):
        before = of_hosts(*[FAILED] * 3)
        run = retried(before)
        planner = RetryPlanner(run)
        planner.add_more()
        assert prune_run(before, Pruned())
        with pytest.raises(SourceError, match=f"run {before}, whose failures .* was removed meanwhile"):
            planner.add_more()
        with pytest.raises(SourceError):
            RetryPlanner(run).add_more()


@pytest.mark.usefixtures("windows")
class TestTheFence:
    @pytest.fixture
    def run(self) -> int:
        return retried(of_hosts(*[FAILED] * 5))

    def test_only_the_runs_planner_may_plan(self, run):
        Run.objects.filter(pk=run).update(planner=7)
        with pytest.raises(PlanLost):
            RetryPlanner(run, 8).add_more()
        assert not Shard.objects.filter(run=run).exists()
        assert RetryPlanner(run, 7).add_more() is not None

    def test_of_two_with_the_same_right_one_is_late(self, run):
        first, second = RetryPlanner(run), RetryPlanner(run)
        first.add_more()
        first.add_more()
        with pytest.raises(PlanLost):
            second.add_more()
        assert runs.pending(run) == 4

    def test_a_commit_whose_answer_was_lost_counts_as_done(self, run):
        untold = RetryPlanner(run)
        committed = RetryPlanner(run).add_more()  # as its own, whose answer was lost with the connection
        assert untold.add_more() == committed
        assert plan_all(untold) == 2
        assert (untold.accepted, runs.pending(run)) == (5, 5)

    @pytest.mark.django_db(transaction=True)
    def test_what_failed_may_be_called_again(self, run, monkeypatch):
        planner = RetryPlanner(run)

        def fail(*arguments) -> None:
            raise OperationalError("gone")

        with monkeypatch.context() as patched:
            patched.setattr(planner, "_advance", fail)
            with pytest.raises(DatabaseError):
                planner.add_more()
        assert (planner.accepted, Shard.objects.filter(run=run).exists()) == (0, False)
        plan_all(planner)
        assert (planner.accepted, runs.pending(run)) == (5, 5)


class TestManyFailures:
    def test_are_planned_within_bounded_memory(self):
        run = retried(many_failures(100_000))
        planner = RetryPlanner(run)
        planner.add_more()
        tracemalloc.start()
        try:
            plan_all(planner)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (planner.accepted, runs.pending(run)) == (100_000, 100_000)
        assert peak < 6 * 2**20  # their ids alone, in a list, take as much


def many_failures(number: int, hosts: int = 50) -> int:
    """Make a run of so many failures by inserting their rows."""
    run = runs.create_run(FetchConfig())
    hosts_of = [f"h{place * hosts // number}.example:80" for place in range(number)]
    insert_rows(
        Target,
        ("fingerprint", "method", "url", "host"),
        [(place.to_bytes(16), "GET", f"http://{host}/{place}", host) for place, host in enumerate(hosts_of)],
    )
    targets = list(Target.objects.order_by("id").values_list("id", flat=True))
    ShardWriter(run).write([Planned(*item) for item in zip(targets, hosts_of, range(number), strict=True)])
    names = ("id", "run", "target", "position", "status", "error_kind", "error_detail", "attempts", "started_at",
             "elapsed_us", "bytes")  # fmt: skip
    for shard, stored in Shard.objects.filter(run=run).values_list("id", "payload").iterator():
        payload = decode_payload(bytes(stored))
        insert_rows(
            Result,
            names,
            [
                (shard * PLACES + place, run, target, position, "failed", "timeout", "", 1, 0, 0, 0)
                for place, (target, position) in enumerate(zip(payload.targets, payload.positions, strict=True))
            ],
        )
    assert Shard.objects.filter(run=run).count() >= number / SHARD_SIZE
    return run
