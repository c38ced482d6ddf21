"""An outcome that cannot be stored: it becomes ``internal``, and the others are stored as they are."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fetcher.engine.types import Attempt
from fetcher.models import Result
from fetcher.payloads import run_items
from fetcher.store import runs
from fetcher.store.bodies import StorageFailed
from fetcher.store.record import Recorder
from tests.support.stored import open_targets, outcome, plan, record

URL = "http://a.example/1"

pytestmark = pytest.mark.django_db


class TestADefect:
    """Of one outcome: it is stored as ``internal``, and the others as they are."""

    @pytest.mark.parametrize("status", [65736, 40000, -32769, 2**31, 2**63, 2**70, "200 OK"])
    def test_status_that_no_column_holds_is_never_wrapped(self, status):
        run = plan(URL, "http://a.example/2")
        first, second = open_targets(run)
        assert len(record(run, [outcome(first, http_status=status), outcome(second)])) == 2
        bad, good = Result.objects.order_by("position")
        assert (bad.status, bad.error_kind, bad.http_status) == ("failed", "internal", None)
        assert (good.status, good.http_status) == ("succeeded", 200)

    @pytest.mark.parametrize(
        "values",
        [
            {"elapsed": float("nan")},
            {"elapsed": 1e300},
            {"started_at": float("inf")},
            {"attempts": (Attempt(1, 0.0, 0.0, http_status=2**64),)},
            {"attempts": (Attempt(1, float("nan"), 0.0),)},
            {"headers": (("X", b"bytes in place of text\xff"),)},
            {"headers": (("ETag", None),)},
            {"final_url": "http://a.example/\x00"},
            {"error_detail": 5},
        ],
        ids=lambda values: next(iter(values)),
    )
    def test_value_that_cannot_be_stored_costs_its_target_at_most(self, values):
        run = plan(URL, "http://a.example/2")
        first, second = open_targets(run)
        assert len(record(run, [outcome(first, **values), outcome(second)])) == 2
        assert Result.objects.get(position=1).status == "succeeded"
        assert Result.objects.get(position=0).error_kind in (None, "internal")
        item = run_items(runs.Run.objects.filter(pk=run))[0]
        assert (item.pending, item.succeeded + item.failed) == (0, 2)

    def test_costs_few_transactions_to_find(self):
        run = plan(*(f"http://a.example/{number}" for number in range(256)))
        batch = [outcome(target) for target in open_targets(run)]
        batch[100] = outcome(batch[100].target, http_status=65736)
        with CaptureQueriesContext(connection) as usual:
            record(plan("http://b.example/"), [])
        with CaptureQueriesContext(connection) as queries:
            record(run, batch)
        points = [query for query in queries if query["sql"].startswith("SAVEPOINT")]
        assert len(points) - len([query for query in usual if query["sql"].startswith("SAVEPOINT")]) <= 2 * 8 + 2
        assert Result.objects.filter(status="succeeded").count() == 255

    def test_that_is_no_outcome_s_fault_is_raised_and_nothing_is_recorded(self, monkeypatch):
        run = plan(URL, "http://a.example/2")

        def broken(*args) -> None:
            raise RuntimeError("whatever is recorded")

        monkeypatch.setattr(Recorder, "_count", broken)
        with pytest.raises(RuntimeError, match="whatever is recorded"):
            record(run, map(outcome, open_targets(run)))
        assert not Result.objects.exists()

    def test_outage_is_charged_to_no_target(self, monkeypatch):
        run = plan(URL)

        def away(*args, **kwargs) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fetcher.store.record.save_bodies", away)
        with pytest.raises(OSError, match="No space left"):
            record(run, map(outcome, open_targets(run)))
        assert not Result.objects.exists()

    def test_file_storage_that_fails_is_charged_to_no_target(self, settings):
        settings.FETCHER_BODY_STORAGE = "nowhere"
        settings.FETCHER_BODY_FILE_THRESHOLD = 10
        run = plan(URL)
        with pytest.raises(StorageFailed, match="the file storage 'nowhere' failed"):
            record(run, [outcome(target, body=b"x" * 100) for target in open_targets(run)])
        assert not Result.objects.exists()
