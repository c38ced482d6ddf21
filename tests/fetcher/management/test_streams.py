"""Commands whose standard streams are full, closed or broken.

Every command is called in this process. A few are processes under a shell: there the interpreter itself must also
lose its streams without a word and keep the exit code.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from fetcher.models import Result, Run, RunState
from jobs.models import Job
from tests.rows import make_body, make_result, make_run
from tests.support.commands import COMMAND, call, closed_pipe, environment, full_disk, start
from tests.support.processes import ROOT

ALLOW = ("--allow-network", "127.0.0.1/32")
FULL = ">/dev/full"
CLOSED = ">&-"
REASONS = {FULL: "no space left on device", CLOSED: "it is closed"}
OTHERS = (
    "fetch_urls --help", "fetch_urls --plan http://a.example/", "runs list", "runs show latest --watch",
    "runs cancel latest", "result http://a.example/", "export_run latest", "prune_runs --keep 0 --dry-run",
    "cluster status", "cluster status --watch",
)  # fmt: skip
"""Commands that print and save nothing, or nothing that is lost."""

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full"),
]


@pytest.fixture
def urls(threaded_origin) -> list[str]:
    return [threaded_origin.url(f"/ok/{number}") for number in range(3)]


def shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command under a redirection of the shell, with Python's usual buffering."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments],
        cwd=ROOT,
        env=environment({"PYTHONUNBUFFERED": None}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def lost(redirection: str) -> Iterator[TextIO | None]:
    """Give what standard output or standard error is under a redirection of the shell."""
    with full_disk() if FULL in redirection else contextlib.nullcontext() as stream:
        yield stream


def call_lost(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process with standard output lost."""
    with lost(redirection) as stream:
        return call(*arguments, stdout=stream)


def assert_lost(found: subprocess.CompletedProcess[str], redirection: str) -> None:
    """Check for exit code 1 and one line that names standard output and the reason."""
    assert found.returncode == 1, found.stderr
    [line] = found.stderr.splitlines()
    assert f"standard output cannot be written: {REASONS[redirection]}" in line


def make_what_is_shown(command: str) -> None:
    run = make_run(state=RunState.PENDING if "cancel" in command else RunState.COMPLETED)
    make_result(run, "http://a.example/")


@pytest.mark.parametrize("redirection", REASONS)
class TestStandardOutput:
    @pytest.mark.parametrize("output", ["summary", "ndjson", "json"])
    def test_fetch_urls_saves_everything_when_output_is_lost(self, urls, redirection, output):
        assert_lost(call_lost(redirection, "fetch_urls", *urls, *ALLOW, "--output", output), redirection)
        self.assert_saved(urls)

    def test_fetch_urls_as_a_process_saves_everything(self, urls, redirection):
        assert_lost(shell(redirection, "fetch_urls", *urls, *ALLOW, "--output", "ndjson"), redirection)
        self.assert_saved(urls)

    def assert_saved(self, urls):
        assert Run.objects.get().state == RunState.COMPLETED
        assert Result.objects.filter(status="succeeded").count() == len(urls)

    @pytest.mark.parametrize("command", OTHERS)
    def test_other_commands_exit_1_with_one_line(self, redirection, command):
        make_what_is_shown(command)
        assert_lost(call_lost(redirection, *command.split()), redirection)

    @pytest.mark.parametrize("command", ["fetch_urls --help", "export_run latest", "cluster status --watch"])
    def test_processes_exit_1_with_one_line(self, redirection, command):
        make_what_is_shown(command)
        assert_lost(shell(redirection, *command.split()), redirection)

    def test_job_is_added_when_output_is_lost(self, redirection):
        assert_lost(call_lost(redirection, "job", "add", "feeds", "http://a.example/"), redirection)
        assert Job.objects.filter(name="feeds").exists()

    def test_export_run_writes_the_bodies_when_output_is_lost(self, redirection, tmp_path):
        make_result(make_run(), "http://a.example/", body=make_body(b"text"), content_type="text/plain")
        found = call_lost(redirection, "export_run", "latest", "--bodies", str(tmp_path / "bodies"))
        assert found.returncode == 1
        assert f"standard output cannot be written: {REASONS[redirection]}" in found.stderr.splitlines()[-1]
        assert len(list((tmp_path / "bodies").iterdir())) == 2


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
class TestStandardError:
    def test_fetch_urls_exits_3_when_a_rejected_line_cannot_be_reported(self, urls, redirection):
        with lost(redirection) as stream:
            found = call("fetch_urls", *urls, "bad line", *ALLOW, stderr=stream)
        assert (found.returncode, found.stdout == "") == (3, False)
        assert Result.objects.filter(status="succeeded").count() == len(urls)

    def test_usage_error_exits_2(self, redirection):
        assert shell(redirection, "fetch_urls", "--bogus").returncode == 2

    def test_both_streams_lost_exits_1(self, urls, redirection):
        assert shell(f">/dev/full {redirection}", "fetch_urls", *urls, *ALLOW).returncode == 1
        assert Result.objects.count() == len(urls)


class TestBrokenPipe:
    @pytest.mark.parametrize("output", ["summary", "ndjson", "json"])
    def test_fetch_urls_ends_as_if_it_had_been_read(self, urls, output):
        with closed_pipe() as stream:
            found = call("fetch_urls", *urls, "bad line", *ALLOW, "--output", output, stdout=stream)
        assert (found.returncode, len(found.stderr.splitlines())) == (3, 1)
        assert Result.objects.count() == len(urls)

    @pytest.mark.parametrize("command", ["cluster status --watch", "job add feeds http://a.example/"])
    def test_other_commands_end_quietly(self, command):
        with closed_pipe() as stream:
            found = call(*command.split(), stdout=stream)
        assert (found.returncode, found.stderr) == (0, "")

    def test_processes_end_quietly(self, urls):
        usual = {"PYTHONUNBUFFERED": None}
        for command in (("fetch_urls", *urls, *ALLOW, "--output", "ndjson"), ("cluster", "status", "--watch")):
            with closed_pipe() as stream, start(*command, env=usual, stdout=stream) as process:
                _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")
        assert Result.objects.count() == len(urls)
