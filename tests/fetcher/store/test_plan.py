"""A source's entries to targets, lanes and shards."""

from __future__ import annotations

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.config import FetchConfig
from fetcher.engine.types import Target as EngineTarget
from fetcher.models import SHARD_SIZE, Lane, RejectedLine, Run, Shard, Target, lane_number
from fetcher.sources import Entry
from fetcher.store import runs
from fetcher.store.plan import IdSet, PlanLost, Planner
from tests.support.stored import entries, open_targets, plan, side_by_side


class TestIdSet:
    @given(st.lists(st.integers(min_value=0, max_value=10**12) | st.integers(min_value=65_530, max_value=65_540)))
    def test_is_exact(self, numbers):
        ids, known = IdSet(), set()
        for number in numbers:
            assert (number in ids) == (number in known)
            ids.add(number)
            known.add(number)
        assert all(number in ids for number in numbers)
        assert not any(number in ids for number in {number + 1 for number in known} - known)


@pytest.fixture
def planner(db) -> Planner:
    return Planner(runs.create_run(FetchConfig()))


def labelled(url: str, label: str) -> Entry:
    target = entries(url)[0].target
    return Entry("list", 1, EngineTarget(target.url, target.host, label=label))


class TestAdd:
    def test_of_nothing_does_nothing(self, planner):
        planner.add([])
        assert (planner.accepted, Run.objects.get().source_offset) == (0, None)

    def test_gives_each_target_its_ordinal_in_the_input(self, planner):
        planner.add(entries("http://a/1", "no url", "http://b/2", "http://a/1"))
        planner.add(entries("http://a/3"))
        places = {target.url: target.key.position for target in open_targets(planner.run)}
        assert places == {"http://a/1": 0, "http://b/2": 1, "http://a/3": 3}

    def test_counts_duplicates_within_a_call_and_between_calls(self, planner):
        planner.add(entries("http://a/1", "http://a/1", "http://a/2#fragment", "http://a/2"))
        planner.add(entries("http://a/1", "http://a/3"))
        assert (planner.accepted, planner.duplicates, Run.objects.get().duplicates) == (3, 3, 3)

    def test_keeps_the_first_label_of_a_duplicate(self, planner):
        planner.add([labelled("http://a/1", "first"), labelled("http://a/1", "second")])
        assert [target.label for target in open_targets(planner.run)] == ["first"]

    def test_puts_each_host_into_its_lane_and_counts_there(self, planner):
        hosts = ["a:80", "b:80", "c:80"]
        planner.add(entries(*(f"http://{host}/{number}" for host in hosts for number in range(3))))
        counts = dict(Lane.objects.values_list("number", "planned"))
        assert counts == dict.fromkeys(map(lane_number, hosts), 3)

    def test_cuts_shards_to_their_size(self, planner):
        planner.add(entries(*(f"http://a/{number}" for number in range(2 * SHARD_SIZE + 1))))
        assert list(Shard.objects.order_by("id").values_list("size", flat=True)) == [SHARD_SIZE, SHARD_SIZE, 1]

    def test_keeps_rejected_lines_with_their_reason(self, planner):
        planner.add(entries("http://a/", "ftp://user:secret@b/"))
        [line] = RejectedLine.objects.all()
        assert (line.source, line.line, line.value) == ("list", 2, "ftp://***@b/")
        assert "ftp" in line.reason
        assert (planner.rejected, Run.objects.get().rejected) == (1, 1)

    def test_keeps_how_far_the_source_was_read(self, planner):
        planner.add(entries("http://a/1", "http://a/1", "no url"))
        assert Run.objects.get().source_offset == {"source": "list", "line": 3}

    def test_stores_a_target_once_over_runs(self, db):
        plan("http://a/1", "http://a/2")
        plan("http://a/2", "http://a/3")
        assert Target.objects.count() == 3

    def test_tells_targets_apart_by_method_headers_and_body(self, planner):
        common = EngineTarget("http://a/", "a:80")
        others = [
            EngineTarget("http://a/", "a:80", method="POST"),
            EngineTarget("http://a/", "a:80", headers=(("X-A", "1"),)),
            EngineTarget("http://a/", "a:80", body=b""),
        ]
        planner.add([Entry("list", 1, target) for target in (common, *others)])
        assert planner.duplicates == 0
        assert [t.headers for t in open_targets(planner.run)] == [(), (), (("X-A", "1"),), ()]

    @pytest.mark.parametrize("source", ["caf\udce9.txt", "nul\x00"])
    def test_takes_a_source_whose_name_no_database_takes(self, planner, source):
        planner.add(entries("http://a/", "no url", source=source))
        assert RejectedLine.objects.get().source == source.translate({0xDCE9: "?", 0: "\ufffd"})


class TestTakingUp:
    def test_goes_on_where_another_process_ended(self, planner):
        planner.add(entries("http://a/1", "http://b/1", "no url", "http://a/1"))
        second = Planner(planner.run)
        second.load()
        assert (second.read, second.accepted, second.duplicates, second.rejected) == (4, 2, 1, 1)
        second.add(entries("http://b/1", "http://a/2"))
        assert (second.read, second.accepted, second.duplicates) == (6, 3, 2)
        assert [target.url for target in open_targets(planner.run)] == ["http://a/1", "http://b/1", "http://a/2"]
        assert [target.key.position for target in open_targets(planner.run)] == [0, 1, 4]

    def test_may_be_begun_again_after_a_lost_connection(self, planner):
        planner.add(entries("http://a/1", "http://b/1"))
        second = Planner(planner.run)
        second.load()
        second.load()
        assert second.accepted == 2

    def test_shuts_out_whoever_planned_before(self, planner):
        planner.add(entries("http://a/1"))
        second = Planner(planner.run)
        second.load()
        second.add(entries("http://a/2"))
        with pytest.raises(PlanLost):
            planner.add(entries("http://a/3", "http://a/4"))
        assert runs.pending(planner.run) == 2

    def test_is_for_the_runs_own_reader_only(self, planner):
        Run.objects.update(planner=7)
        with pytest.raises(PlanLost):
            planner.add(entries("http://a/1"))
        Planner(planner.run, 7).add(entries("http://a/1"))
        assert runs.pending(planner.run) == 1

    def test_a_commit_of_which_nothing_was_heard_is_not_made_twice(self, planner):
        planner.add(entries("http://a/1"))
        deaf = Planner(planner.run)
        deaf.load()
        planner.add(entries("http://a/1", "http://a/2", "no url"))
        assert deaf.add(entries("http://a/1", "http://a/2", "no url")) == {"a:80": 1}
        assert (deaf.read, deaf.accepted, deaf.duplicates, deaf.rejected) == (4, 2, 1, 1)
        assert (runs.pending(planner.run), Run.objects.get().duplicates, RejectedLine.objects.count()) == (2, 1, 1)
        deaf.add(entries("http://a/3"))
        assert runs.pending(planner.run) == 3


class TestSplitHosts:
    def test_spreads_each_host_over_so_many_lanes(self, db):
        planner = Planner(runs.create_run(FetchConfig()), split=3)
        planner.add(entries(*(f"http://a/{number}" for number in range(10))))
        assert sorted(Lane.objects.values_list("number", "part", "planned")) == [
            (lane_number("a:80"), 0, 4), (lane_number("a:80"), 1, 3), (lane_number("a:80"), 2, 3),
        ]  # fmt: skip


class TestAfterAFailedTransaction:
    @pytest.fixture
    def broken(self, planner):
        """A planner whose transactions fail after the targets are stored, until ``heal`` is called."""
        planner.add(entries("http://a/1"))
        Run.objects.filter(pk=planner.run).update(planner=7)

        def heal() -> None:
            Run.objects.filter(pk=planner.run).update(planner=None)

        return planner, heal

    @pytest.mark.django_db(transaction=True)
    def test_the_same_entries_are_accepted_the_next_time(self, broken):
        planner, heal = broken
        with pytest.raises(PlanLost):
            planner.add(entries("http://new/1", "http://new/1", "no url"))
        heal()
        planner.add(entries("http://new/1", "http://new/1", "no url"))
        assert (planner.accepted, planner.duplicates, planner.rejected) == (2, 1, 1)
        assert [target.url for target in open_targets(planner.run)] == ["http://a/1", "http://new/1"]
        assert runs.pending(planner.run) == 2


@pytest.mark.django_db(transaction=True)
class TestPlannersSideBySide:
    def test_store_each_target_once_and_do_not_deadlock(self):
        urls = [f"http://h{number % 7}/{number}" for number in range(300)]
        planned = [runs.create_run(FetchConfig()) for _ in range(4)]

        def work(run: int, ordered: list[str]) -> None:
            planner = Planner(run)
            for start in range(0, len(ordered), 60):
                planner.add(entries(*ordered[start : start + 60]))

        orders = [urls, urls[::-1], urls[150:] + urls[:150], urls[1::2] + urls[::2]]
        side_by_side(
            *(lambda run=run, order=order: work(run, order) for run, order in zip(planned, orders, strict=True))
        )
        assert Target.objects.count() == 300
        assert [runs.pending(run) for run in planned] == [300] * 4

    def test_do_not_deadlock_with_recording_of_the_same_run(self):
        if connection.vendor == "sqlite":
            pytest.skip("SQLite has one writer at a time")
        run = plan(*(f"http://h{number}/0" for number in range(40)))
        planner = Planner(run)
        planner.load()

        def count_up() -> None:
            from django.db import transaction
            from django.db.models import F

            for _ in range(20):
                with transaction.atomic():
                    for lane in Lane.objects.filter(run=run).order_by("id").values_list("id", flat=True):
                        Lane.objects.filter(pk=lane).update(bytes=F("bytes") + 1)

        def plan_more() -> None:
            for page in range(1, 21):
                planner.add(entries(*(f"http://h{number}/{page}" for number in range(40))))

        side_by_side(count_up, plan_more)
        assert runs.pending(run) == 840
