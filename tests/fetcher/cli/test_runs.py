"""Runs as people read them."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.utils import timezone

from fetcher.cli.runs import exit_code, print_run, print_runs, stored_progress, watch_line, watch_run
from fetcher.models import RejectedLine, Run
from fetcher.payloads import RunItem, run_items
from tests.rows import NOON, make_result, make_run

pytestmark = pytest.mark.django_db


def item(run: Run) -> RunItem:
    return run_items(Run.objects.filter(pk=run.pk))[0]


def finished(**values) -> Run:
    return make_run(started_at=NOON, finished_at=NOON + timedelta(seconds=90), **values)


def test_the_list_has_a_line_for_each_run():
    run = finished(label="nightly\x1b[2J")
    make_result(run)
    out = io.StringIO()
    print_runs(out, [item(run)])
    head, line = out.getvalue().splitlines()
    assert head.split()[:5] == ["run", "label", "or", "source", "state"]
    assert line.split() == f"{run.pk} nightly [2J completed 1 1 0 0 0 0 2026-03-01 12:00 1 min 30 s".split()


def test_the_list_names_a_run_without_a_label_by_its_source():
    out = io.StringIO()
    print_runs(out, [item(finished(source="lists/\x1burls.txt")), item(finished(source="a.txt", label="named"))])
    lines = out.getvalue().splitlines()
    assert lines[1].split()[1:4] == ["lists/", "urls.txt", "completed"]
    assert lines[2].split()[1:3] == ["named", "completed"]


class TestShow:
    def test_is_the_summary_with_rejected_lines_and_options(self):
        run = finished(rejected=1, source="urls.txt", options={"concurrency": 7})
        make_result(run, status="failed", error_detail="late")
        RejectedLine.objects.create(run=run, source="urls.txt", line=3, value="x\x1b", reason="is not a URL")
        out = io.StringIO()
        print_run(out, item(run))
        found = out.getvalue()
        assert "completed in 1 min 30 s: 1 target" in found
        assert "1 timeout" in found
        assert "urls.txt:3: 'x\\x1b' is not a URL" in found
        assert "concurrency = 7" in found
        assert "Source: urls.txt" in found

    def test_says_how_many_more_lines_were_rejected(self):
        run = finished(rejected=25)
        RejectedLine.objects.bulk_create(
            RejectedLine(run=run, source="-", line=number, value="x", reason="no") for number in range(25)
        )
        out = io.StringIO()
        print_run(out, item(run))
        assert "… and 5 more" in out.getvalue()

    def test_claims_no_rate_where_the_clocks_contradict_each_other(self):
        """The run began by one clock, its results by another that is an hour behind."""
        run = make_run(state="interrupted", started_at=NOON + timedelta(hours=1), finished_at=None)
        make_result(run)
        out = io.StringIO()
        print_run(out, item(run))
        headline = out.getvalue().splitlines()[0]
        assert "/s" not in headline
        assert " interrupted: 1 target, " in headline

    def test_compares_hosts(self):
        run = finished()
        make_result(run, "https://slow.example/", elapsed_us=2_000_000)
        make_result(run, "https://fast.example/", elapsed_us=1000)
        hosts = stored_progress(item(run)).slowest_hosts(5)
        assert [(times.host, times.count) for times in hosts] == [("slow.example:443", 1), ("fast.example:443", 1)]
        assert hosts[0].mean == pytest.approx(2.0)

    def test_counts_retries_and_what_was_not_sent_again(self):
        run = finished()
        make_result(run, "https://a.example/", attempts=3)
        make_result(run, "https://b.example/", attempts=1)
        found = stored_progress(item(run))
        assert (found.retries, found.unchanged_bytes, found.known) == (2, 0, True)

    def test_leaves_hosts_out_of_a_huge_run(self, monkeypatch):
        run = finished()
        make_result(run)
        monkeypatch.setattr("fetcher.cli.runs.HOSTS_UP_TO", 0)
        assert stored_progress(item(run)).slowest_hosts(5) == []

    def test_takes_the_time_of_a_lost_run_from_its_last_result(self):
        run = make_run(state="running", started_at=NOON)
        make_result(run, started_at=NOON + timedelta(seconds=30))
        assert item(run).state == "interrupted"
        assert stored_progress(item(run)).elapsed == pytest.approx(30, abs=1)


class TestWatch:
    def test_prints_a_line_now_and_then_until_the_run_is_over(self):
        states = [{"state": "pending"}, {"state": "pending"}, {"state": "completed"}]
        run = make_run()

        def find() -> RunItem:
            Run.objects.filter(pk=run.pk).update(**states.pop(0))
            return item(run)

        out, waits = io.StringIO(), []
        last = watch_run(out, find, sleep=waits.append)
        assert last.state == "completed"
        assert out.getvalue().splitlines() == [f"run {run.pk}: pending, 0/0"] * 2
        assert len(waits) == 2

    def test_line_has_rate_failures_and_time(self):
        run = finished(rejected=2)
        for number in range(3):
            make_result(run, f"https://example.com/{number}", status="failed" if number else "succeeded")
        assert watch_line(item(run)) == f"run {run.pk}: completed, 3/3, 0/s, 2 failed, 2 rejected, 1 min 30 s"

    def test_line_counts_the_time_of_a_run_in_progress(self):
        run = make_run(state="interrupted", started_at=timezone.now())
        assert watch_line(item(run)) == f"run {run.pk}: interrupted, 0/0"


@pytest.mark.parametrize(
    ("state", "status", "rejected", "code"),
    [
        ("completed", "succeeded", 0, 0),
        ("completed", "failed", 0, 3),
        ("completed", "skipped", 0, 3),
        ("completed", "succeeded", 1, 3),
        ("interrupted", "succeeded", 0, 1),
        ("failed", "succeeded", 0, 1),
    ],
)
def test_exit_code_is_the_fetchs_own(state, status, rejected, code):
    run = make_run(state=state, rejected=rejected)
    make_result(run, status=status)
    assert exit_code(item(run)) == code
