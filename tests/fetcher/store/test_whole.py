"""A run that is saved whole, after it was fetched."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from fetcher.bodies import read_body
from fetcher.conf import fetcher_settings
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status
from fetcher.models import Result, Run, RunState, Shard, Target
from fetcher.store.whole import save_whole_run
from tests.support.stored import entries, outcome

CONFIG = FetchConfig(headers=(("Authorization", "Bearer s3cret"),))


def save(*outcomes, **options) -> Run:
    began = 1_700_000_000.0
    return Run.objects.get(
        pk=save_whole_run(CONFIG, outcomes, fetcher_settings(), source="fanout", began=began, **options)
    )


def targets(*urls: str):
    return [entry.target for entry in entries(*urls)]


@pytest.mark.django_db
class TestSaveWholeRun:
    def test_saves_a_completed_run_with_a_result_for_each_outcome(self):
        found = targets("http://b.example/", "http://a.example/1", "http://a.example/2")
        failure = {"status": Status.FAILED, "error_kind": ErrorKind.CANCELLED, "body": None, "http_status": None}
        run = save(outcome(found[0], body=b"0"), outcome(found[1], body=b"1"), outcome(found[2], **failure))
        results = Result.objects.filter(run=run).order_by("position").select_related("target", "representation__body")
        assert [result.target.url for result in results] == [target.url for target in found]
        assert [result.status for result in results] == ["succeeded", "succeeded", "failed"]
        assert [read_body(result.representation.body) for result in results[:2]] == [b"0", b"1"]
        assert (run.state, run.source, run.secrets) == (RunState.COMPLETED, "fanout", None)
        assert run.created_at == run.started_at == datetime.fromtimestamp(1_700_000_000, UTC)
        assert not Shard.objects.filter(done_at=None).exists()

    def test_saves_what_is_extracted(self):
        save(outcome(targets("http://a.example/")[0]), extract=lambda outcome: {"bytes": len(outcome.body)})
        assert Result.objects.get().extracted == {"bytes": 7}

    def test_says_whether_the_body_changed(self):
        [target] = targets("http://a.example/")
        for body in (b"one", b"two", b"two"):
            save(outcome(target, body=body))
        assert list(Result.objects.order_by("run").values_list("changed", flat=True)) == [None, True, False]

    @pytest.mark.django_db(transaction=True)
    def test_saves_nothing_where_the_database_cannot_be_used(self):
        def extract(outcome):
            raise OperationalError("server closed the connection unexpectedly")

        with pytest.raises(OperationalError):
            save(outcome(targets("http://a.example/")[0]), extract=extract)
        assert not Run.objects.exists()
        assert not Target.objects.exists()
