"""``runs``, ``result``, ``export_run`` and ``prune_runs``: exit codes, streams, bad input.

Most are called in this process. One test of each kind starts a process.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess

import pytest

from fetcher.models import Body, Result, Run
from tests.rows import make_body, make_result, make_run
from tests.support.commands import call, closed_pipe, manage, start
from tests.support.databases import using_database
from tests.support.processes import free_port

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run() -> Run:
    run = make_run(label="nightly")
    make_result(run, "https://example.com/a", body=make_body(b"text"), content_type="text/plain", label="=1+1")
    make_result(run, "https://example.com/b", status="failed", error_detail="no bytes for 30 s (--read-timeout)")
    return run


def assert_one_clear_line(found: subprocess.CompletedProcess[str], code: int, text: str) -> None:
    assert (found.returncode, found.stdout) == (code, ""), found.stderr
    assert "Traceback" not in found.stderr
    assert text in found.stderr.strip().splitlines()[-1]


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ("runs", "required: list|show|cancel"),
            ("runs stop 1", "invalid choice: 'stop'"),
            ("runs cancel", "required: RUN"),
            ("runs cancel 1 -1", "argument RUN: must be a run's number or latest, not '-1'"),
            ("runs show", "required: RUN"),
            ("runs show abc", "argument RUN: must be a run's number or latest, not 'abc'"),
            ("runs show 0", "argument RUN: must be a run's number"),
            ("runs show -1", "argument RUN: must be a run's number or latest, not '-1'"),
            ("runs show 99999999999999999999999", "argument RUN: must be a run's number"),
            ("runs list --state asleep", "argument --state: invalid choice"),
            ("runs list --limit 0", "argument --limit: must be a whole number from 1 to 10000, not '0'"),
            ("runs list --limit ٣", "argument --limit: must be a whole number"),
            ("runs list --output csv", "argument --output: invalid choice"),
            ("result", "required: ID|URL"),
            ("result nonsense", "'nonsense' is not a URL"),
            ("result ftp://a.example/", "scheme 'ftp' is not supported"),
            ("result 1 --run x", "argument --run: must be a run's number"),
            ("export_run", "required: RUN"),
            ("export_run x", "argument RUN: must be a run's number"),
            ("export_run 1 --format xlsx", "argument --format: invalid choice"),
            ("prune_runs", "say what to remove: --keep N, --older-than AGE, or both"),
            ("prune_runs --keep -1", "argument --keep: must be a whole number of at least 0, not '-1'"),
            ("prune_runs --keep many", "argument --keep: must be a whole number"),
            (
                "prune_runs --older-than soon",
                "argument --older-than: must be an age such as 12h, 30d or 8w, not 'soon'",
            ),
        ],
    )
    def test_is_a_usage_error(self, arguments, text):
        assert_one_clear_line(call(*arguments.split()), 2, text)

    def test_is_a_usage_error_of_a_process(self):
        assert_one_clear_line(manage("runs", "show", "abc"), 2, "argument RUN: must be a run's number or latest")

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ("runs show 77", "there is no run 77; manage.py runs list shows which there are"),
            ("runs show latest", "there is no run yet; manage.py fetch_urls makes one"),
            ("runs show 77 --watch", "there is no run 77"),
            ("result 77", "there is no result 77"),
            ("result 99999999999999999999999", "there is no result 99999999999999999999999"),
            ("result https://example.com/", "there is no result of GET https://example.com/; manage.py fetch_urls"),
            ("result 77 --run 5", "there is no run 5"),
            ("export_run 77", "there is no run 77"),
            ("export_run latest", "there is no run yet"),
        ],
    )
    def test_unknown_ones_are_an_error(self, arguments, text):
        assert_one_clear_line(call(*arguments.split()), 1, text)

    def test_unknown_one_is_an_error_of_a_process(self):
        assert_one_clear_line(manage("result", "77"), 1, "there is no result 77")

    @pytest.mark.parametrize("arguments", ["runs list", "result 1", "export_run 1", "prune_runs --keep 1"])
    def test_a_database_that_does_not_answer_is_an_error(self, arguments):
        with using_database(f"postgres://x@127.0.0.1:{free_port()}/none"):
            assert_one_clear_line(call(*arguments.split()), 1, "the database cannot be used")

    def test_a_database_that_does_not_answer_is_an_error_of_a_process(self):
        found = manage("result", "1", env={"DATABASE_URL": f"postgres://x@127.0.0.1:{free_port()}/none"})
        assert_one_clear_line(found, 1, "the database cannot be used")

    def test_a_result_of_another_run_is_not_found_in_this(self, run):
        other = make_run()
        number = Result.objects.first().pk
        assert_one_clear_line(call("result", str(number), "--run", str(other.pk)), 1, f"in run {other.pk}")


class TestRuns:
    def test_list_shows_the_newest_first(self, run):
        newest = make_run(state="interrupted")
        found = manage("runs", "list")
        assert (found.returncode, found.stderr) == (0, "")
        assert [line.split()[0] for line in found.stdout.splitlines()] == ["run", str(newest.pk), str(run.pk)]

    @pytest.mark.parametrize("arguments", [("--state", "completed"), ("--label", "nightly"), ("--with-failures",)])
    def test_list_filters(self, run, arguments):
        make_run(state="interrupted")
        found = call("runs", "list", *arguments, "--output", "json")
        assert [item["id"] for item in json.loads(found.stdout)] == [run.pk]

    def test_list_of_failed_runs_says_how_to_find_runs_with_failures(self, run):
        found = call("runs", "list", "--state", "failed")
        assert (found.returncode, found.stdout) == (0, "")
        assert found.stderr.endswith("manage.py runs list --with-failures\n")
        advised = call(*found.stderr.split("manage.py ")[1].split(), "--output", "json")
        assert [item["id"] for item in json.loads(advised.stdout)] == [run.pk]

    def test_list_of_nothing_says_so(self):
        found = call("runs", "list")
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "there is no such run\n")

    def test_show(self, run):
        found = call("runs", "show", "latest")
        assert found.returncode == 0
        assert f"Run {run.pk} (nightly) completed" in found.stdout

    def test_show_as_json(self, run):
        assert json.loads(call("runs", "show", str(run.pk), "--output", "json").stdout)["failed"] == 1

    @pytest.mark.parametrize(("state", "code"), [("completed", 3), ("interrupted", 1), ("running", 1)])
    def test_watching_ends_with_the_runs_own_code(self, run, state, code):
        Run.objects.update(state=state)
        found = call("runs", "show", str(run.pk), "--watch")
        assert found.returncode == code
        assert "Traceback" not in found.stderr


class TestResult:
    def test_is_found_by_its_number_and_by_its_url(self, run):
        number = Result.objects.get(error_kind=None).pk
        by_number, by_url = call("result", str(number)), call("result", "https://EXAMPLE.com/a#part")
        assert by_number.returncode == 0
        assert by_number.stdout == by_url.stdout
        assert "Succeeded with 200" in by_number.stdout

    def test_of_a_url_is_the_newest_or_that_of_a_run(self, run):
        make_result(make_run(), "https://example.com/a")
        newest = json.loads(call("result", "https://example.com/a", "--output", "json").stdout)
        older = json.loads(call("result", "https://example.com/a", "--run", str(run.pk), "--output", "json").stdout)
        assert newest["run"] > older["run"] == run.pk
        assert newest["attempt_log"] == []

    def test_has_a_hint(self, run):
        assert "--read-timeout TIME, such as 2m" in call("result", "https://example.com/b").stdout


class TestExport:
    def test_writes_to_standard_output(self, run):
        found = call("export_run", str(run.pk))
        assert found.returncode == 0
        assert [json.loads(line)["status"] for line in found.stdout.splitlines()] == ["succeeded", "failed"]

    def test_writes_csv_to_a_file(self, run, tmp_path):
        found = call("export_run", "latest", "--format", "csv", "--output", str(tmp_path / "a.csv"))
        assert (found.returncode, found.stdout) == (0, "")
        with (tmp_path / "a.csv").open(newline="") as file:
            assert [row["label"] for row in csv.DictReader(file)] == ["'=1+1", ""]

    @pytest.mark.parametrize("chosen", ["ndjson", "csv"])
    def test_writes_bodies_and_an_index_and_keeps_what_is_there(self, run, tmp_path, chosen):
        arguments = ("export_run", "latest", "--bodies", str(tmp_path / "new" / "b"), "--format", chosen)
        assert "1 file written" in call(*arguments).stderr
        names = {path.name for path in (tmp_path / "new" / "b").iterdir()}
        assert names == {f"index.{chosen}", f"{bytes(Body.objects.get().sha256).hex()}.txt"}
        assert "0 files written, 1 there already" in call(*arguments).stderr

    def test_says_where_a_body_cannot_be_read(self, run, tmp_path):
        Body.objects.update(content=None, file="bodies/gone")
        found = call("export_run", "latest", "--bodies", str(tmp_path))
        assert found.returncode == 1
        assert "1 body could not be read: the file 'bodies/gone'" in found.stderr
        assert "Traceback" not in found.stderr

    @pytest.mark.parametrize("option", ["--output", "--bodies"])
    def test_says_where_it_cannot_write(self, run, tmp_path, option):
        (tmp_path / "file").write_text("x")
        found = call("export_run", "latest", option, str(tmp_path / "file" / "below"))
        assert_one_clear_line(found, 1, "cannot be written: not a directory")

    def test_says_that_a_folder_is_a_file(self, run, tmp_path):
        (tmp_path / "file").write_text("x")
        found = call("export_run", "latest", "--bodies", str(tmp_path / "file"))
        assert_one_clear_line(found, 1, "cannot be written: file exists")
        assert (tmp_path / "file").read_text() == "x"

    def test_says_that_a_file_is_a_folder(self, run, tmp_path):
        assert_one_clear_line(call("export_run", "latest", "--output", str(tmp_path)), 1, "is a directory")

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
    def test_says_that_a_folder_is_not_for_us(self, run, tmp_path):
        tmp_path.chmod(0o500)
        found = call("export_run", "latest", "--bodies", str(tmp_path / "b"))
        assert_one_clear_line(found, 1, "permission denied")


class TestPrune:
    def test_dry_run_removes_nothing(self, run):
        found = call("prune_runs", "--keep", "0", "--dry-run")
        assert (found.returncode, found.stdout.splitlines()[-1]) == (0, "1 run would be removed")
        assert Run.objects.exists()

    def test_removes_and_says_what(self, run):
        found = call("prune_runs", "--keep", "0", "--older-than", "1m")
        assert found.returncode == 0
        assert "1 run, 2 results, 1 body, 0 files removed" in found.stdout
        assert not Run.objects.exists()

    def test_of_nothing_is_fine(self):
        found = call("prune_runs", "--older-than", "99999w")
        assert found.returncode == 0
        assert found.stdout.startswith("0 runs, 0 results, 0 bodies, 0 files removed\n")


@pytest.mark.parametrize(
    "arguments", ["runs list", "runs show latest", "result https://example.com/a", "export_run latest"]
)
def test_a_closed_pipe_ends_quietly(run, arguments):
    with closed_pipe() as stream:
        found = call(*arguments.split(), stdout=stream)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_closed_pipe_ends_a_process_quietly(run):
    with closed_pipe() as stream, start("export_run", "latest", stdout=stream) as process:
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
