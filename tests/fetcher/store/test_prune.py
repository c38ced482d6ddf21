"""Old runs are removed, nothing else, beside a run in progress and after a crash."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, connections, transaction
from django.utils import timezone

from fetcher.bodies import read_body
from fetcher.conf import fetcher_settings
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status
from fetcher.models import (
    Body,
    Lane,
    RejectedLine,
    Representation,
    Result,
    Run,
    RunState,
    Shard,
    Target,
    Worker,
)
from fetcher.sources.entry import entry_for_url
from fetcher.store import leases, prune, runs
from fetcher.store.plan import Planner
from fetcher.store.record import Recorder
from fetcher.store.sql import keep_rows
from tests.support.stored import CONFIG, open_targets, outcome, plan
from tests.support.stored import fetch as _fetch

URL = "http://a.example/1"
ETAG = (("ETag", '"v1"'), ("Content-Type", "text/plain"))
FAILED = {"status": Status.FAILED, "error_kind": ErrorKind.TIMEOUT, "error_detail": "late", "body": None}
NOT_MODIFIED = {"status": Status.NOT_MODIFIED, "http_status": 304, "body": None}

pytestmark = pytest.mark.django_db(transaction=True)


def fetch(*urls: str, **values) -> int:
    run = _fetch(*urls, **values)
    runs.finish(run)
    return run


def prune_all(*numbers: int) -> prune.Pruned:
    pruned = prune.Pruned()
    for run in numbers:
        prune.prune_run(run, pruned)
    prune.prune_bodies(pruned)
    return pruned


def counts() -> dict[str, int]:
    tables = (Run, Lane, Shard, Result, Representation, Body, RejectedLine)
    return {table.__name__: table.objects.count() for table in tables}


class Progressing:
    """A run in progress that has read what is known of its targets, and records later."""

    def __init__(self, *urls: str) -> None:
        self.run = runs.create_run(CONFIG)
        self.worker = leases.register_worker(self.run)
        runs.start(self.run)
        Planner(self.run).add([entry_for_url("list", line, url) for line, url in enumerate(urls, 1)])
        runs.planned(self.run)
        leases.lease_lanes(self.run, self.worker)
        self.targets = open_targets(self.run)

    def record(self, **values) -> list[int]:
        outcomes = [outcome(target, **values) for target in self.targets]
        new = Recorder(self.run, self.worker, fetcher_settings()).record(outcomes)
        return [one.target.key.result for one in new]


class TestPrunable:
    def ended(self, days: int, **values) -> int:
        return Run.objects.create(
            **{"state": "completed", "finished_at": timezone.now() - timedelta(days=days), **values}
        ).pk

    def test_spares_the_newest(self):
        numbers = [self.ended(1) for _ in range(4)]
        assert prune.prunable(keep=3, before=None) == numbers[:1]
        assert prune.prunable(keep=0, before=None) == numbers

    def test_spares_the_young(self):
        old, _ = self.ended(10), self.ended(1)
        assert prune.prunable(keep=None, before=timezone.now() - timedelta(days=5)) == [old]

    def test_wants_both_to_agree(self):
        oldest, _, _ = self.ended(10), self.ended(9), self.ended(1)
        assert prune.prunable(keep=2, before=timezone.now() - timedelta(days=5)) == [oldest]
        assert prune.prunable(keep=2, before=timezone.now() - timedelta(days=20)) == []

    def test_takes_a_run_without_an_end_by_its_beginning(self):
        run = self.ended(0, state="interrupted", finished_at=None, started_at=timezone.now() - timedelta(days=9))
        assert prune.prunable(keep=None, before=timezone.now() - timedelta(days=5)) == [run]

    def test_never_returns_a_pending_run_or_one_in_progress(self):
        Run.objects.create(state="pending")
        Progressing(URL)
        assert prune.prunable(keep=0, before=None) == []

    def test_spares_the_run_whose_failures_another_still_reads(self):
        parent = fetch(URL, **FAILED)
        planned = Progressing(URL)
        Run.objects.filter(pk=planned.run).update(parent=parent, planned_at=None)
        assert prune.prunable(keep=0, before=None) == []
        assert not prune.prune_run(parent, prune.Pruned())
        runs.planned(planned.run)
        assert prune.prunable(keep=0, before=None) == [parent]

    @pytest.mark.parametrize(("silent", "found"), [(timedelta(minutes=50), False), (timedelta(minutes=70), True)])
    def test_returns_a_run_whose_worker_has_been_silent_for_long(self, silent, found):
        run = Progressing(URL).run
        Worker.objects.update(expires_at=timezone.now() - silent)
        assert prune.prunable(keep=0, before=None) == ([run] if found else [])


class TestPruneRun:
    def test_leaves_nothing_of_the_last_run_but_its_targets(self):
        run = fetch(URL, "http://b.example/", headers=ETAG)
        RejectedLine.objects.create(run_id=run, source="list", line=1, value="x", reason="is no URL")
        pruned = prune_all(run)
        assert set(counts().values()) == {0}
        assert Target.objects.count() == 2
        assert (pruned.runs, pruned.results, pruned.representations, pruned.bodies) == (1, 2, 2, 1)

    def test_leaves_other_runs_as_they_are(self):
        old = fetch(URL, "http://b.example/", body=b"old")
        new = fetch(URL, "http://b.example/", body=b"new")
        before = list(Result.objects.filter(run=new).values())
        prune_all(old)
        assert list(Result.objects.filter(run=new).values()) == before
        assert [read_body(body) for body in Body.objects.all()] == [b"new"]

    def test_keeps_a_representation_that_a_later_result_has(self):
        old = fetch(URL, headers=ETAG)
        new = fetch(URL, headers=ETAG)
        shared = Result.objects.get(run=new).representation_id
        assert shared == Result.objects.get(run=old).representation_id
        prune_all(old)
        assert Representation.objects.get().pk == shared
        assert read_body(Result.objects.get().representation.body) == b"content"

    def test_keeps_a_representation_that_an_earlier_result_has(self):
        old, new = fetch(URL, headers=ETAG), fetch(URL, headers=ETAG)
        prune_all(new)
        assert Result.objects.get().run_id == old
        assert Representation.objects.count() == Body.objects.count() == 1

    def test_keeps_a_body_that_another_target_has(self):
        old = fetch(URL)
        fetch("http://b.example/")
        prune_all(old)
        assert Body.objects.count() == 1

    def test_goes_through_many_shards(self):
        urls = [f"http://h{number % 40}.example/{number}" for number in range(1300)]
        run = fetch(*urls)
        reports = []
        assert prune.prune_run(run, prune.Pruned(), lambda pruned: reports.append(pruned.results))
        assert len(reports) > 2
        assert Result.objects.count() == Shard.objects.count() == 0

    def test_removes_targets_without_a_result_of_an_interrupted_run(self):
        run = plan(URL)
        runs.start(run)
        runs.finish(run)
        assert prune_all(run).runs == 1

    def test_keeps_the_runs_that_repeated_it(self):
        parent = fetch(URL)
        child = Run.objects.create(state="completed", parent_id=parent)
        prune_all(parent)
        child.refresh_from_db()
        assert child.parent_id is None

    def test_of_a_run_in_progress_does_nothing(self):
        run = Progressing(URL).run
        assert not prune.prune_run(run, prune.Pruned())
        assert Run.objects.get(pk=run).state == RunState.RUNNING
        assert Lane.objects.get().worker_id is not None

    def test_takes_the_lanes_from_a_worker_that_is_gone(self):
        progressing = Progressing(URL)
        Worker.objects.update(expires_at=timezone.now() - timedelta(hours=2))
        assert prune_all(progressing.run).runs == 1

    def test_of_no_run_does_nothing(self):
        assert not prune.prune_run(77, prune.Pruned())

    def test_after_a_crash_in_between_completes(self):
        run = fetch(*(f"http://h{number}.example/" for number in range(30)), body=os.urandom(3000))

        def crash(pruned: prune.Pruned) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prune.prune_run(run, prune.Pruned(), crash)
        assert 0 < Result.objects.count() < 30
        assert prune.prunable(keep=0, before=None) == [run]
        prune_all(run)
        assert set(counts().values()) == {0}


class TestFiles:
    @pytest.fixture(autouse=True)
    def _large_from_here(self, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path
        settings.FETCHER_BODY_FILE_THRESHOLD = 1000

    def test_go_after_their_rows(self):
        run = fetch(URL, body=os.urandom(3000))
        file = Body.objects.get().file
        assert default_storage.exists(file)
        assert prune_all(run).files == 1
        assert not default_storage.exists(file)

    def test_of_other_bodies_stay(self):
        old, _ = fetch(URL, body=os.urandom(3000)), fetch("http://b.example/", body=b"x" + os.urandom(3000))
        prune_all(old)
        assert default_storage.exists(Body.objects.get().file)

    def test_that_a_crash_left_without_a_row_go_as_well(self):
        fetch(URL, body=os.urandom(3000))
        kept = Body.objects.get().file
        left = f"bodies/ab/cd/{'ab' * 32}.z"
        other = "bodies/ab/cd/notes.txt"
        for name in (left, other):
            default_storage.save(name, ContentFile(b"left"))
        assert prune_all().files == 1
        assert [default_storage.exists(name) for name in (kept, left, other)] == [True, False, True]

    def test_that_are_gone_already_are_no_error(self):
        run = fetch(URL, body=os.urandom(3000))
        default_storage.delete(Body.objects.get().file)
        assert prune_all(run).files == 0


class TestBesideARunInProgress:
    def test_what_it_may_carry_forward_stays(self):
        old = fetch(URL, headers=ETAG)
        progressing = Progressing(URL)
        pruned = prune_all(old)
        assert (pruned.runs, pruned.results, pruned.held) == (0, 0, 1)
        [number] = progressing.record(**NOT_MODIFIED)
        assert read_body(Result.objects.get(pk=number).representation.body) == b"content"

    def test_what_was_held_goes_the_next_time(self):
        old = fetch(URL, headers=ETAG)
        progressing = Progressing(URL)
        prune_all(old)
        progressing.record(**NOT_MODIFIED)
        leases.let_go(progressing.worker)
        runs.finish(progressing.run)
        assert prune_all(old).runs == 1
        assert read_body(Result.objects.get().representation.body) == b"content"

    def test_what_was_superseded_before_it_began_goes(self):
        old, _ = fetch(URL, body=b"old"), fetch(URL, body=b"new")
        Run.objects.update(finished_at=timezone.now() - timedelta(minutes=5))
        Progressing(URL)
        assert prune_all(old).runs == 1

    def test_what_was_superseded_while_it_ran_stays(self):
        old = fetch(URL, body=b"old")
        Progressing(URL)
        fetch(URL, body=b"new")
        assert prune_all(old).held == 1

    def test_failures_go(self):
        old = fetch(URL, **FAILED)
        Progressing(URL)
        assert prune_all(old).runs == 1

    def test_recording_puts_back_a_representation_that_is_gone(self):
        old = fetch(URL, headers=ETAG)
        progressing = Progressing(URL)
        Result.objects.filter(run=old).delete()
        Representation.objects.all().delete()
        [number] = progressing.record(**NOT_MODIFIED)
        found = Result.objects.get(pk=number).representation
        assert (found.pk, found.etag, read_body(found.body)) == (number, '"v1"', b"content")

    def test_recording_survives_a_body_that_is_gone(self):
        old = fetch(URL, headers=ETAG)
        progressing = Progressing(URL)
        Result.objects.filter(run=old).delete()
        Representation.objects.all().delete()
        Body.objects.all().delete()
        [number] = progressing.record(**NOT_MODIFIED)
        assert Result.objects.get(pk=number).representation.body is None

    def test_nothing_of_many_runs_vanishes_while_old_ones_are_pruned(self):
        """Runs follow each other, each carrying forward or renewing, while another thread prunes all it may."""
        urls = [f"http://h{number}.example/" for number in range(25)]
        fetch(*urls, headers=ETAG)
        stop = threading.Event()
        errors: list[BaseException] = []

        def keep_pruning() -> None:
            try:
                while not stop.is_set():
                    prune_all(*prune.prunable(keep=1, before=None))
            except BaseException as exc:
                errors.append(exc)
            finally:
                connections.close_all()

        thread = threading.Thread(target=keep_pruning)
        thread.start()
        try:
            for turn in range(12):
                progressing = Progressing(*urls)
                values = NOT_MODIFIED if turn % 3 else {"headers": ETAG, "body": b"body %d" % (turn // 2)}
                ids = progressing.record(**values)
                leases.let_go(progressing.worker)
                runs.finish(progressing.run)
                for result in Result.objects.filter(pk__in=ids).select_related("representation__body"):
                    assert result.representation is not None
                    assert result.representation.body is not None
        finally:
            stop.set()
            thread.join(60)
        assert errors == []
        prune_all(*prune.prunable(keep=1, before=None))
        assert Run.objects.count() == 1
        assert Representation.objects.count() == 25
        assert Body.objects.count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks are PostgreSQL's")
class TestLocksOnPostgresql:
    def test_a_body_that_is_being_recorded_again_is_left_for_the_next_time(self):
        body = Body.objects.create(sha256=b"x" * 32, size=1, content=b"x")
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with transaction.atomic():
                keep_rows(Body, [body.pk])
                held.set()
                release.wait(20)
            connections.close_all()

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert held.wait(20)
            assert prune_all().bodies == 0
        finally:
            release.set()
            thread.join(20)
        assert prune_all().bodies == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL sees to that itself")
class TestSpace:
    def test_is_given_back(self):
        fetch(*(f"http://h{number}.example/" for number in range(200)), body=os.urandom(5000))
        for number in range(200):
            Body.objects.create(sha256=number.to_bytes(32), size=4000, content=os.urandom(4000))
        prune_all(*prune.prunable(keep=0, before=None))
        free = prune.free_bytes()
        assert free is not None
        assert free > 500_000
        prune.vacuum()
        assert prune.free_bytes() == 0
