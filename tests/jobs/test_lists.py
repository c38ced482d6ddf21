"""Lists of targets: imported, replaced and exported as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.engine.types import Target as Wanted
from fetcher.options import RunOptions
from fetcher.sources import Entry, SourceError
from fetcher.store.plan import EntryPlanner
from jobs import lists, store
from jobs.lists import ListPlan, export_targets, imported
from jobs.models import Job, JobRejectedLine, JobShard, TargetList
from tests.support.jobs import CONFIG, OPTIONS, make_job
from tests.support.stored import entries

pytestmark = pytest.mark.django_db


def exported(job: Job) -> list[str]:
    return [item.target.url for item in export_targets(Job.objects.get(pk=job.pk).list_id)]


def breaking(*urls: str) -> Iterator[Entry]:
    yield from entries(*urls)
    raise SourceError("list: cannot be read any further")


class TestImport:
    def test_counts_targets_duplicates_and_rejected_lines(self):
        job = make_job("news", "http://a/1", "http://a/1#x", "no url", "http://b/1")
        found = job.list
        assert (found.read, found.size, found.duplicates, found.rejected) == (4, 2, 1, 1)

    def test_keeps_rejected_lines_redacted(self):
        make_job("news", "http://a/1", "ftp://user:secret@b/")
        [line] = JobRejectedLine.objects.all()
        assert (line.source, line.line, line.value) == ("list", 2, "ftp://***@b/")

    def test_knows_duplicates_over_batches(self, monkeypatch):
        monkeypatch.setattr(lists, "BATCH", 2)
        job = make_job("news", "http://a/1", "http://a/2", "http://a/1", "http://a/3")
        assert (job.list.size, job.list.duplicates) == (3, 1)

    def test_gives_targets_the_method_and_body_of_the_options(self):
        job = make_job("news", options=RunOptions(data=b"q=1"))
        found = next(export_targets(job.list_id)).target
        assert (found.method, found.body) == ("POST", "q=1")

    def test_that_fails_leaves_nothing(self):
        with pytest.raises(SourceError), imported(breaking("http://a/1"), CONFIG, OPTIONS, source="list"):
            pytest.fail("the block is not for a list that was not read")
        assert not TargetList.objects.exists()
        assert not JobShard.objects.exists()

    def test_removes_lists_that_a_killed_one_left_behind_and_no_other(self):
        day = timezone.now() - lists.LEFT_BEHIND
        old = TargetList.objects.create(created_at=day - timedelta(minutes=1))
        young = TargetList.objects.create(created_at=day + timedelta(hours=1))
        job = make_job()
        TargetList.objects.filter(pk=job.list_id).update(created_at=day - timedelta(days=9))
        make_job("other")
        assert not TargetList.objects.filter(pk=old.pk).exists()
        assert TargetList.objects.filter(pk__in=[young.pk, job.list_id]).count() == 2

    def test_is_taken_up_where_another_planner_ended(self):
        found = TargetList.objects.create()
        EntryPlanner(ListPlan(found.pk), CONFIG).add(entries("http://a/1", "no url"))
        second = EntryPlanner(ListPlan(found.pk), CONFIG)
        second.load()
        second.add(entries("http://a/1", "http://a/2"))
        assert (second.read, second.accepted, second.duplicates, second.rejected) == (4, 2, 1, 1)


class TestReplacing:
    def test_is_of_the_whole_list(self):
        job = make_job("news", "http://a/1", "no url")
        with imported(entries("http://c/1"), CONFIG, OPTIONS, source="other") as found:
            assert exported(job) == ["http://a/1"]
            store.replace_list("news", found)
        assert exported(job) == ["http://c/1"]
        assert TargetList.objects.get().source == "other"
        assert not JobRejectedLine.objects.exists()

    def test_that_fails_keeps_the_old_one(self):
        job = make_job("news", "http://a/1")
        with pytest.raises(SourceError), imported(breaking("http://c/1"), CONFIG, OPTIONS, source="other"):
            pytest.fail("the block is not for a list that was not read")
        assert exported(job) == ["http://a/1"]
        assert TargetList.objects.count() == 1


class TestExport:
    def test_is_in_the_order_of_the_import(self, monkeypatch):
        monkeypatch.setattr(lists, "BATCH", 7)
        monkeypatch.setattr(lists, "SHARD_SIZE", 2)
        urls = [f"http://h{number % 5}/{number}" for number in range(40)]
        assert exported(make_job("news", *urls, options=RunOptions(split_hosts=2))) == urls

    def test_has_all_that_makes_a_target_but_secrets(self):
        headers = (("Accept", "text/html"), ("Authorization", "Bearer x"), ("X-Api-Key", EnvReference("KEY")))
        target = Wanted("http://a/", "a:80", "PUT", headers, b"x", label="first", retry=True)
        job = make_job(given=[Entry("list", 1, target, own_method=True)])
        [found] = export_targets(job.list_id)
        assert (found.secret, found.binary) == (True, False)
        assert msgspec.to_builtins(found.target) == {
            "url": "http://a/", "method": "PUT", "headers": [("Accept", "text/html"), ("X-Api-Key", "env:KEY")],
            "body": "x", "label": "first", "retry": True,
        }  # fmt: skip

    def test_says_which_body_is_no_text(self):
        target = Wanted("http://a/", "a:80", "PUT", body=b"\xff")
        [found] = export_targets(make_job(given=[Entry("list", 1, target, own_method=True)]).list_id)
        assert (found.target.body, found.binary) == (None, True)


def test_secrets_of_targets_are_sealed():
    target = Wanted("http://a/", "a:80", headers=(("Authorization", "Bearer hidden"),))
    job = make_job(given=[Entry("list", 1, target)], config=FetchConfig())
    assert job.list.secrets
    assert b"hidden" not in bytes(JobShard.objects.get().payload)
