"""``--queue`` and ``runs cancel``, with a real cluster where that matters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections

from fetcher.models import Result, Run, RunState, Worker
from fetcher.store import cluster
from tests.support import dispatching
from tests.support.commands import Called, start
from tests.support.dispatching import Noting, drain
from tests.support.jobs import make_job

ALLOW = {"FETCHER_ALLOWED_NETWORKS": "127.0.0.0/8"}

pytestmark = pytest.mark.django_db(transaction=True)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def qcluster(transactional_db: None) -> Iterator[subprocess.Popen[str]]:
    """A cluster with two workers on the test's database."""
    environment = {**ALLOW, "CLUSTER_WORKERS": "2", "REDIS_URL": None}
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process = start("qcluster", env=environment, start_new_session=True, **silent)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        connections.close_all()


@pytest.fixture
def noting(settings):
    settings.FETCHER_DISPATCHER = dispatching.PATH
    Noting.reset()
    return Noting


@contextlib.contextmanager
def reading() -> Iterator[subprocess.Popen[str]]:
    """Have a list planned for the cluster that does not end."""
    with start("fetch_urls", "-", "--queue", "--progress", "none") as process:
        assert process.stdin is not None
        process.stdin.write("https://a.example/\n")
        process.stdin.flush()
        until(lambda: Run.objects.filter(read=1).exists())
        yield process


@pytest.fixture
def slow(threaded_origin, tmp_path) -> Path:
    """A list that one process takes half a minute for."""
    path = tmp_path / "slow"
    path.write_text("".join(threaded_origin.url(f"/slow/{number}?ms=200\n") for number in range(1500)))
    return path


class TestWithACluster:
    def test_a_run_that_is_waited_for_looks_and_ends_as_one_that_is_fetched_here(
        self, qcluster, threaded_origin, tmp_path
    ):
        urls = [threaded_origin.url(f"/ok/{number}") for number in range(50)]
        path = tmp_path / "list"
        path.write_text("\n".join([*urls, threaded_origin.url("/status/404"), "no url", urls[0]]))
        process = start("fetch_urls", "--file", str(path), "--queue", "--wait", "--output", "ndjson", env=ALLOW)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 3, err
        items = [json.loads(line) for line in out.splitlines()]
        assert sorted(item["id"] for item in items) == sorted(Result.objects.values_list("id", flat=True))
        assert len(items) == 51
        assert "no url" in err
        run = Run.objects.get()
        assert (run.state, run.duplicates, run.rejected) == (RunState.COMPLETED, 1, 1)

    def test_ctrl_c_detaches_and_cancel_ends_it_on_the_cluster(self, qcluster, slow):
        process = start("fetch_urls", "--file", str(slow), "--queue", "--wait", "--progress", "none", env=ALLOW)
        until(Result.objects.exists)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        run = Run.objects.get()
        assert (process.returncode, out) == (130, "")
        assert f"detached: run {run.pk} goes on on the cluster" in err
        assert f"runs cancel {run.pk}" in err
        assert run.state == RunState.RUNNING
        began = time.monotonic()
        called = Called("cancel", str(run.pk), command="runs")
        assert (called.code, time.monotonic() - began < 10) == (0, True)
        until(lambda: not Worker.objects.exists(), 10)
        run.refresh_from_db()
        done = Result.objects.count()
        assert (run.state, run.secrets) == (RunState.CANCELLED, None)
        assert f"run {run.pk} is cancelled; it was running. {done} of 1,500 targets" in called.out
        assert f"{1500 - done:,} stay pending" in called.out


class TestCancellingARunOfACommand:
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_ends_all_its_processes_with_one_line(self, slow, workers):
        process = start("fetch_urls", "--file", str(slow), "--workers", workers, "--progress", "none", env=ALLOW)
        until(lambda: Result.objects.exists() and Worker.objects.count() == int(workers))
        run = Run.objects.get()
        assert Called("cancel", str(run.pk), command="runs").code == 0
        _, err = process.communicate(timeout=15)
        assert (process.returncode, err) == (1, f"CommandError: run {run.pk} was cancelled\n")
        assert (Run.objects.get().state, Worker.objects.count()) == (RunState.CANCELLED, 0)

    def test_of_one_that_reads_its_list_for_the_cluster_as_well(self, noting):
        with reading() as process:
            run = Run.objects.get()
            called = Called("cancel", str(run.pk), command="runs")
            assert called.out.startswith(f"run {run.pk} is cancelled; it was pending. 0 of 1 target have a result")
            assert process.wait(15) == 1
            assert process.stderr is not None
            assert process.stderr.read() == f"CommandError: run {run.pk} was cancelled\n"


class TestHandingOver:
    def test_ends_with_what_was_handed_over(self, noting, tmp_path):
        (tmp_path / "list").write_text("https://a.example/\nhttps://b.example/\nhttps://a.example/\n")
        called = Called("--file", str(tmp_path / "list"), "--queue", "--label", "x")
        run = Run.objects.get()
        assert called.code == 0
        lines = [line.split() for line in called.out.splitlines() if line]
        assert lines[0] == f"Run {run.pk} (x) was handed over to the cluster: 2 targets".split()
        assert lines[1] == ["duplicates", "1", "listed", "more", "than", "once,", "fetched", "once"]
        assert lines[2][-4:] == f"runs show {run.pk} --watch".split()
        assert lines[3][-3:] == f"runs cancel {run.pk}".split()
        assert noting.woken == [run.pk]

    def test_as_json_is_the_run(self, noting):
        called = Called("https://a.example/", "--queue", "--output", "json")
        assert called.code == 0
        document = json.loads(called.out)
        assert (list(document), document["run"]["total"], document["run"]["state"]) == (["run"], 1, "pending")

    @pytest.mark.parametrize(("more", "code"), [((), 3), (("--exit-zero",), 0)])
    def test_tells_rejected_lines(self, noting, more, code):
        called = Called("https://a.example/", "no url", "--queue", *more)
        assert called.code == code
        assert "arguments:2: rejected: 'no url'" in called.err
        assert "rejected" in called.out

    def test_ctrl_c_while_the_list_is_read_says_how_to_read_on(self):
        with reading() as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 130
            assert process.stderr is not None
            err = process.stderr.read()
        assert "the cluster fetches what was accepted, 1 target" in err
        assert f"fetch_urls --resume {Run.objects.get().pk} --queue" in err

    def test_of_failures_and_of_an_interrupted_run(self, noting, threaded_origin, settings):
        settings.FETCHER_ALLOWED_NETWORKS = "127.0.0.0/8"
        assert Called(threaded_origin.url("/status/404")).code == 3
        first = Run.objects.get()
        called = Called("--retry-failed", str(first.pk), "--queue")
        second = Run.objects.latest("id")
        assert (called.code, second.parent_id, second.state) == (0, first.pk, RunState.PENDING)
        assert f"Run {second.pk} was handed over to the cluster: 1 target" in called.out
        called = Called("--resume", str(second.pk), "--queue")
        assert (called.code, noting.woken) == (0, [second.pk] * 2)
        assert f"resuming run {second.pk}: 0 of 1 target" in called.err

    def test_of_a_job_is_skipped_while_another_run_of_it_is_in_progress(self, noting):
        make_job("news", "http://a/1", "http://b/2")
        first = Called("run", "news", "--queue", command="job")
        second = Called("run", "news", "--queue", "--output", "json", command="job")
        run = Run.objects.get()
        assert (first.code, second.code) == (0, 0)
        assert f"Run {run.pk} (news) was handed over to the cluster: 2 targets" in first.out
        assert f"run {run.pk} of job news is in progress: this one is skipped" in second.err
        assert json.loads(second.out)["run"] is None
        drain(run.pk)
        assert Run.objects.get().state == RunState.COMPLETED


class TestBadUsage:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--wait",), "argument --wait: goes with --queue only"),
            (("--queue", "--workers", "2"), "argument --workers: not allowed with --queue"),
            (("--queue", "--plan"), "argument --plan: not allowed with --queue"),
            (("--queue", "--output", "ndjson"), "argument --output: ndjson prints results"),
            (("--queue", "--deadline", "501"), "argument --deadline: must be at most 500 on the cluster"),
        ],
        ids=["wait", "workers", "plan", "ndjson", "deadline"],
    )  # fmt: skip
    def test_is_a_usage_error(self, noting, arguments, text):
        called = Called("https://a.example/", *arguments)
        assert called.code == 2
        assert text in called.err
        assert not Run.objects.exists()

    def test_a_deadline_of_the_settings_that_is_too_long_is_named(self, noting, settings):
        settings.FETCHER_DEADLINE = 501
        called = Called("https://a.example/", "--queue")
        assert called.code == 1
        assert "the run's --deadline must be at most 500 on the cluster" in called.err

    def test_a_queue_that_cannot_be_reached_is_one_line(self):
        process = start("fetch_urls", "https://a.example/", "--queue", env={"REDIS_URL": "redis://127.0.0.1:1/0"})
        _, err = process.communicate(timeout=20)
        assert process.returncode == 1
        [line] = err.splitlines()
        assert line.startswith("CommandError: the queue cannot be reached: Redis at 127.0.0.1:1: ")
        assert not Run.objects.exists()

    def test_without_a_cluster_says_so(self, settings):
        settings.FETCHER_DISPATCHER = ""
        called = Called("https://a.example/", "--queue")
        assert (called.code, called.err) == (1, "CommandError: there is no cluster: FETCHER_DISPATCHER is not set\n")


class TestARunThatEndedBadly:
    def failed(self) -> Run:
        Called("https://a.example/", "--queue")
        run, worker = cluster.begin(Run.objects.get().pk, 8) or (0, 0)
        cluster.fail(run, worker, "the header A needs the environment variable B, which is not set")
        return Run.objects.get()

    def test_shows_why(self, noting):
        run = self.failed()
        called = Called("show", str(run.pk), command="runs")
        assert "Why it failed: the header A needs the environment variable B, which is not set" in called.out
        document = json.loads(Called("show", str(run.pk), "--output", "json", command="runs").out)
        assert document["error"] == "the header A needs the environment variable B, which is not set"

    def test_is_told_to_who_watches(self, noting):
        run = self.failed()
        called = Called("show", str(run.pk), "--watch", command="runs")
        assert (called.code, called.err) == (
            1,
            f"CommandError: run {run.pk} has failed: "
            "the header A needs the environment variable B, which is not set\n",
        )  # fmt: skip

    def test_cannot_be_cancelled(self, noting):
        run = self.failed()
        called = Called("cancel", str(run.pk), "99999", "latest", command="runs")
        over = f"run {run.pk} is failed: there is nothing to cancel\n"
        gone = "there is no run 99999; manage.py runs list shows which there are\n"
        assert (called.code, called.out, called.err) == (1, "", f"{over}{gone}CommandError: {over}")
