"""``--quiet`` and ``-v 0``: no output when all is well, as crontabs need it."""

from __future__ import annotations

import json
import signal
import time

import pytest

from fetcher.models import Run
from jobs import store as jobs_store
from jobs.models import Job
from tests.rows import make_run
from tests.support.commands import Called, start

ALLOW = ("--allow-network", "127.0.0.1")
QUIET = (("--quiet",), ("-v", "0"))

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(threaded_origin) -> Job:
    assert Called("add", "news", threaded_origin.url("/ok/1"), *ALLOW, "--keep-runs", "1", command="job").code == 0
    return Job.objects.get()


@pytest.mark.parametrize("quiet", QUIET)
def test_fetch_urls_prints_nothing_when_all_succeed(threaded_origin, quiet):
    called = Called(threaded_origin.url("/ok/1"), *ALLOW, *quiet)
    assert (called.code, called.out, called.err) == (0, "", "")
    assert Run.objects.get().state == "completed"


@pytest.mark.parametrize("exit_zero", [(), ("--exit-zero",)])
def test_fetch_urls_prints_the_summary_on_standard_error_when_something_fails(threaded_origin, exit_zero):
    called = Called(threaded_origin.url("/missing/1"), "no url", *ALLOW, "--quiet", *exit_zero)
    assert (called.code, called.out) == (0 if exit_zero else 3, "")
    assert called.err.startswith("arguments:2: rejected: 'no url'")
    assert f"Run {Run.objects.get().pk} completed" in called.err
    assert "http_status 404" in called.err


def test_fetch_urls_prints_the_json_that_was_asked_for(threaded_origin):
    called = Called(threaded_origin.url("/ok/1"), *ALLOW, "--quiet", "--output", "json")
    assert (called.code, called.err, len(json.loads(called.out)["items"])) == (0, "", 1)
    called = Called(threaded_origin.url("/ok/2"), *ALLOW, "--quiet", "--output", "ndjson")
    assert (called.code, called.err, json.loads(called.out)["status"]) == (0, "", "succeeded")


def test_fetch_urls_prints_an_error_of_its_own():
    called = Called("--file", "nowhere.txt", "--quiet")
    assert (called.code, called.out) == (1, "")
    assert "nowhere.txt: cannot be read" in called.err


def test_retry_without_failures_prints_nothing(threaded_origin):
    Called(threaded_origin.url("/ok/1"), *ALLOW)
    called = Called("--retry-failed", "latest", "--quiet")
    assert (called.code, called.out, called.err) == (0, "", "")


def test_interrupted_process_still_says_how_to_go_on(threaded_origin):
    env = {"FETCHER_GRACE": "100ms"}
    with start("fetch_urls", threaded_origin.url("/hang/1"), *ALLOW, "--quiet", env=env) as process:
        end = time.monotonic() + 20
        while not threaded_origin.log and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "--resume" in err


@pytest.mark.parametrize("quiet", QUIET)
def test_run_job_prints_nothing_when_all_succeed(job, quiet):
    for _ in range(2):  # the second one removes an old run
        called = Called("news", *quiet, command="run_job")
        assert (called.code, called.out, called.err) == (0, "", "")
    assert Run.objects.count() == 1


def test_run_job_prints_nothing_when_the_job_is_paused(job):
    jobs_store.pause_or_resume("news", enabled=False)
    called = Called("news", "--quiet", command="run_job")
    assert (called.code, called.out, called.err) == (0, "", "")


def test_job_run_takes_it_as_well(job):
    called = Called("run", "news", "--quiet", command="job")
    assert (called.code, called.out, called.err) == (0, "", "")


@pytest.mark.parametrize("quiet", QUIET)
def test_prune_runs_prints_nothing(quiet):
    make_run()
    called = Called("--keep", "0", *quiet, command="prune_runs")
    assert (called.code, called.out, called.err, Run.objects.count()) == (0, "", "", 0)
