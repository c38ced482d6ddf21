"""``manage.py job`` and ``run_job``, from the call to the exit code."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management.base import OutputWrapper
from django.db import transaction
from django_q.models import Schedule as Alarm

from fetcher.models import Result, Run, RunState
from fetcher.store import leases, runs
from jobs import store, timers
from jobs.cli import running
from jobs.models import Firing, Job, TargetList
from jobs.schedules import Kind, Schedule
from tests.rows import NOON
from tests.support.commands import Called, manage
from tests.support.jobs import CONFIG, OPTIONS

ALLOW = ("--allow-network", "127.0.0.0/8")
QUIET = ("--progress", "none")

pytestmark = pytest.mark.django_db(transaction=True)


def job(*arguments: str) -> Called:
    return Called(*arguments, command="job")


def run_job(*arguments: str) -> Called:
    return Called(*arguments, *QUIET, command="run_job")


@pytest.fixture
def news(threaded_origin) -> Job:
    urls = [threaded_origin.url(path) for path in ("/ok/1", "/ok/2")]
    assert job("add", "news", *urls, *ALLOW, "--max-attempts", "1", "--every", "15m").code == 0
    return Job.objects.get()


@pytest.fixture
def in_progress(news) -> int:
    """A run of the job that somebody else is working on."""
    with transaction.atomic():
        run = store.begin_run("news", CONFIG, OPTIONS)
        runs.start(run, leases.register_worker(run))
    return run


class TestAdd:
    def test_takes_options_between_name_and_urls(self):
        assert (
            job("add", "a", "--weekly", "mon", "9:00", "--time-zone", "Asia/Tokyo", "http://a/1", "http://a/2").code
            == 0
        )
        found = Job.objects.get()
        assert found.schedule == Schedule(kind=Kind.WEEKLY, weekday=0, at="09:00", time_zone="Asia/Tokyo")
        assert found.list.size == 2

    def test_reads_what_fetch_urls_reads(self, tmp_path):
        file = tmp_path / "feeds.opml"
        file.write_text('<opml><body><outline title="A" xmlUrl="https://example.com/feed.xml"/></body></opml>')
        assert job("add", "a", "--file", str(file), "--cron", "*/5 * * * *").code == 0
        assert Job.objects.get().list.source == str(file)

    def test_takes_durations_with_units_and_stores_seconds(self):
        job("add", "a", "--every", "1h30m", "--start-jitter", "5m", "--deadline", "1m", "http://a/1")
        found = Job.objects.get()
        assert (found.every_minutes, found.start_jitter, found.options["deadline"]) == (90, 300, 60)

    def test_tells_when_it_is_due_and_who_fetches_it(self):
        told = job("add", "a", "http://a/1", "--daily", "6:30", "--time-zone", "Asia/Tokyo").out.splitlines()
        assert (told[0], told[1][:9], told[1][-40:]) == (
            "job a added: 1 target", "due next ", "06:30 JST, where manage.py qcluster runs",
        )  # fmt: skip
        assert "07:30 JST" in job("set", "a", "--daily", "7:30").out
        assert job("set", "a", "--per-host", "2").out == "job a changed\n"
        job("pause", "a")
        assert job("set", "a", "--daily", "8:30").out == "job a changed\n"

    def test_with_rejected_lines_saves_the_rest_and_exits_3(self):
        called = job("add", "a", "http://a/1", "no url")
        assert (called.code, called.out) == (3, "job a added: 1 target, 1 rejected line\n")
        assert "arguments:2: rejected: 'no url'" in called.err

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (("a b", "http://a/"), 2, "letters, digits"),
            (("a",), 2, "nothing to fetch: give URLs"),
            (("a", "no url"), 1, "there is no URL in arguments; nothing was saved"),
            (("a", "--file", "nowhere.txt"), 1, "nowhere.txt: cannot be read"),
            (("a", "http://a/", "--every", "0m"), 2, "argument --every: must be at least 1m"),
            (("a", "http://a/", "--every", "soon"), 2, "argument --every: must be an interval such as 15m"),
            (
                ("a", "http://a/", "--every", "90s"),
                2,
                "argument --every: must be whole minutes, such as 15m, not '90s'",
            ),
            (
                ("a", "http://a/", "--start-jitter", "2h"),
                2,
                "argument --start-jitter: must be whole seconds from 0s to 1h",
            ),
            (("a", "http://a/", "--start-jitter", "soon"), 2, "must be a duration such as 500ms, 30s, 5m or 1h"),
            (("a", "http://a/", "--daily", "25:00"), 2, "argument --daily: must be a time of day"),
            (("a", "http://a/", "--weekly", "moon", "9:00"), 2, "argument --weekly: must be one of mon"),
            (("a", "http://a/", "--weekly", "mon", "9"), 2, "argument --weekly: must be a time of day"),
            (("a", "http://a/", "--cron", "* 25 * * *"), 2, "'25' cannot be read as hour (field 2"),
            (("a", "http://a/", "--daily", "9:00", "--time-zone", "Mars/X"), 2, "there is no time zone 'Mars/X'"),
            (("a", "http://a/", "--every", "1h", "--time-zone", "UTC"), 2, "argument --time-zone: goes with"),
            (("a", "http://a/", "--every", "1h", "--daily", "9:00"), 2, "not allowed with argument"),
            (("a", "http://a/", "--keep-runs", "0"), 2, "--keep-runs"),
            (("a", "http://a/", "--per-host", "0"), 2, "argument --per-host"),
        ],
    )
    def test_that_cannot_be_done_saves_nothing(self, arguments, code, text):
        called = job("add", *arguments)
        assert (called.code, text in called.err) == (code, True), called.err
        assert not Job.objects.exists()
        assert not TargetList.objects.exists()

    def test_of_a_name_that_is_taken_is_refused(self, news):
        called = job("add", "news", "http://a/")
        assert (called.code, "there is a job news already" in called.err) == (1, True)
        assert TargetList.objects.count() == 1

    def test_a_mistake_in_a_shell_is_one_line(self):
        done = manage("job", "add", "a", "--cron", "61 * * * *", "http://a/")
        assert (done.returncode, len(done.stderr.splitlines()), "Traceback" in done.stderr) == (2, 2, False)


class TestAsking:
    def test_list_and_show(self, news):
        assert "every 15 minutes" in job("list").out
        shown = job("show", "news").out
        assert all(text in shown for text in ("2 (0 duplicates, 0 rejected lines)", "due next", "No run yet"))

    def test_tell_when_it_is_due_by_its_own_clock(self, news):
        job("set", "news", "--daily", "6:30", "--time-zone", "Asia/Tokyo")
        assert " 06:30 JST" in job("list").out
        assert " 06:30 JST" in job("show", "news").out
        job("pause", "news")
        assert "06:30 JST" not in job("list").out

    def test_tell_what_became_of_the_last_firings(self, news):
        found = Job.objects.get()
        Firing.objects.create(job=found, intended_at=NOON, state="ran", run=12)
        reason = "headers: the header Authorization needs the environment variable TOKEN, which is not set"
        Firing.objects.create(job=found, intended_at=NOON + timedelta(minutes=15), state="failed", reason=reason)
        shown = " ".join(job("show", "news").out.split())
        assert f"Sun 2026-03-01 12:15 UTC failed {reason} Sun 2026-03-01 12:00 UTC ran 12" in shown

    def test_tell_that_nobody_came(self, news):
        assert "qcluster" not in job("show", "news").out
        args = str((Job.objects.get().pk, "2026-03-01T12:15:00+00:00"))
        Alarm.objects.filter(func=timers.FIRE).update(args=args, next_run=NOON)
        shown = job("show", "news").out
        assert "Overdue since Sun 2026-03-01 12:15 UTC: nobody came. Is manage.py qcluster running?" in shown

    def test_as_json(self, news):
        [listed] = json.loads(job("list", "--output", "json").out)
        shown = json.loads(job("show", "news", "--output", "json").out)
        assert listed.items() <= shown.items()
        assert len(shown["next_times"]) == 3

    @pytest.mark.parametrize("form", ["show", "set", "import", "export", "pause", "resume", "remove", "run"])
    def test_of_an_unknown_job_is_one_line(self, form):
        more = {"set": ("--every", "1h"), "import": ("http://a/",)}.get(form, ())
        called = job(form, "nope", *more)
        assert (called.code, called.err.count("\n")) == (1, 1)
        assert "there is no job 'nope'" in called.err


class TestSet:
    def test_changes_what_is_given(self, news):
        assert job("set", "news", "--per-host", "2", "--daily", "9:00", "--overlap", "queue").code == 0
        found = Job.objects.get()
        assert (found.options["per_host"], found.options["max_attempts"], str(found.schedule), found.overlap) == (
            2, 1, "daily at 09:00 (UTC)", "queue",
        )  # fmt: skip

    def test_changes_a_time_zone_alone(self, news):
        job("set", "news", "--daily", "9:00")
        job("set", "news", "--time-zone", "Asia/Tokyo")
        assert str(Job.objects.get().schedule) == "daily at 09:00 (Asia/Tokyo)"

    def test_takes_the_schedule_away(self, news):
        job("set", "news", "--no-schedule")
        assert Job.objects.get().schedule == Schedule()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [((), "say what to change"), (("--method", "PUT"), "argument --method"), (("--data", "x"), "argument --data")],
    )
    def test_that_says_nothing_or_comes_too_late_is_refused(self, news, arguments, text):
        called = job("set", "news", *arguments)
        assert (called.code, text in called.err) == (2, True)


class TestTheList:
    def test_is_replaced_and_exported_so_that_it_can_be_imported(self, news, tmp_path):
        file = tmp_path / "targets.jsonl"
        file.write_text(job("export", "news").out)
        called = job("import", "news", "--file", str(file))
        assert (called.code, called.out) == (0, "job news has a new list: 2 targets\n")
        assert job("export", "news").out == file.read_text()

    def test_stays_where_the_new_one_cannot_be_read(self, news, tmp_path):
        file = tmp_path / "broken.opml"
        file.write_text("<opml><body><outline xmlUrl='http://a/'/></bod")
        before = job("export", "news").out
        assert job("import", "news", "--file", str(file)).code == 1
        assert (job("export", "news").out, TargetList.objects.count()) == (before, 1)

    def test_is_exported_without_secrets_which_are_counted(self, tmp_path):
        file = tmp_path / "items.jsonl"
        file.write_text('{"url": "http://a/", "headers": {"Authorization": "Bearer hidden"}}\n')
        job("add", "a", "--file", str(file))
        called = job("export", "a")
        assert "hidden" not in called.out
        assert "1 target had headers with secret values" in called.err


class TestARun:
    @pytest.mark.parametrize("call", [run_job, lambda name: job("run", name, *QUIET)], ids=["run_job", "job run"])
    def test_ends_as_fetch_urls_does(self, news, call):
        called = call("news")
        assert called.code == 0
        assert "2 targets" in called.out
        run = Run.objects.get()
        assert (run.state, run.job_name, Result.objects.filter(run=run).count()) == (RunState.COMPLETED, "news", 2)

    def test_with_failures_exits_3_unless_told_otherwise(self, threaded_origin):
        job("add", "news", threaded_origin.url("/missing/1"), *ALLOW)
        assert (run_job("news").code, run_job("news", "--exit-zero").code) == (3, 0)

    def test_prints_json_lines_of_its_results(self, news):
        called = run_job("news", "--output", "ndjson")
        assert [json.loads(line)["status"] for line in called.out.splitlines()] == ["succeeded"] * 2

    def test_by_two_processes_of_a_shell(self, news):
        done = manage("run_job", "news", "--workers", "2", *QUIET)
        assert (done.returncode, Run.objects.get().state) == (0, RunState.COMPLETED), done.stderr

    def test_removes_old_runs_afterwards(self, news):
        job("set", "news", "--keep-runs", "1")
        run_job("news")
        called = run_job("news")
        assert (called.code, "removed 1 old run of job news" in called.err, Run.objects.count()) == (0, True, 1)

    def test_of_a_paused_job_is_for_people_only(self, news):
        job("pause", "news")
        called = run_job("news", "--output", "json")
        assert (called.code, json.loads(called.out)["run"]) == (0, None)
        assert "is paused: nothing is fetched" in called.err
        assert job("run", "news", *QUIET).code == 0

    def test_is_skipped_while_another_is_in_progress(self, news, in_progress):
        called = run_job("news")
        assert (called.code, f"run {in_progress} of job news is in progress" in called.err) == (0, True)
        assert Run.objects.count() == 1

    def test_queues_up_behind_another_where_the_job_says_so(self, news, in_progress):
        job("set", "news", "--overlap", "queue")
        looks = []

        def look(seconds: float) -> None:
            looks.append(seconds)
            runs.finish(in_progress, failed=True)

        err = io.StringIO()
        call = {"name": "news", "output": "summary", "progress": "none", "exit_zero": False, "workers": 1}
        streams = {"stdout": OutputWrapper(io.StringIO()), "stderr": OutputWrapper(err)}
        running.run(call, **streams, scheduled=True, sleep=look)
        assert (len(looks), "waiting for its end" in err.getvalue()) == (1, True)
        assert Run.objects.latest("id").state == RunState.COMPLETED

    def test_that_was_interrupted_is_resumed_like_any_other(self, news):
        with transaction.atomic():
            run = store.begin_run("news", runs.load_config(news), runs.load_options(news))
            worker = leases.register_worker(run)
            runs.start(run, worker)
        leases.let_go(worker)
        runs.finish(run)
        assert Run.objects.get().state == RunState.INTERRUPTED
        assert Called("--resume", str(run), *QUIET).code == 0
        assert Run.objects.get().state == RunState.COMPLETED


def test_removing_keeps_runs(news):
    run_job("news")
    assert job("remove", "news").code == 0
    assert (Job.objects.exists(), Run.objects.get().job_name) == (False, "news")
