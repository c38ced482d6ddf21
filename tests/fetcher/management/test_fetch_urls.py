"""``manage.py fetch_urls``, from its call to its exit code."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from django.db import connection

from fetcher.bodies import read_body
from fetcher.cli.text import program
from fetcher.models import Body, RejectedLine, Result, Run, RunState, Shard, Target, Worker
from fetcher.store.shards import decode_payload
from tests.support.commands import Called, call, closed_pipe, database_url, manage, start
from tests.support.databases import using_database
from tests.support.processes import free_port

ALLOW = ("--allow-network", "127.0.0.1/32")
PORT_CLOSED = f"postgres://postgres@127.0.0.1:{free_port()}/nothing"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def urls(threaded_origin) -> list[str]:
    return [threaded_origin.url(f"/ok/{number}") for number in range(3)]


class TestExitCodes:
    def test_0_where_all_succeeded(self, urls):
        assert Called(*urls, *ALLOW).code == 0
        assert Result.objects.filter(status="succeeded").count() == 3

    def test_0_where_nothing_was_modified(self, threaded_origin):
        url = threaded_origin.url("/etag/1")
        Called(url, *ALLOW)
        called = Called(url, *ALLOW)
        assert called.code == 0
        assert "not_modified  1" in called.out

    def test_3_where_some_failed(self, urls, threaded_origin):
        assert Called(*urls, threaded_origin.url("/missing/1"), *ALLOW).code == 3

    def test_3_where_a_line_was_rejected(self, urls):
        assert Called(*urls, "ftp://a.example/", *ALLOW).code == 3

    def test_0_in_spite_of_failures_with_exit_zero(self, threaded_origin):
        assert Called(threaded_origin.url("/missing/1"), "no-url", *ALLOW, "--exit-zero").code == 0

    def test_0_and_a_hint_where_the_list_is_empty(self, tmp_path):
        (tmp_path / "urls.txt").write_text("# nothing\n\n")
        called = Called("--file", str(tmp_path / "urls.txt"))
        assert called.code == 0
        assert f"there is no URL in {tmp_path}/urls.txt" in called.err

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((), "nothing to fetch"),
            (("-", "http://a.example/"), "must be the only positional argument"),
            (("-", "--file", "-"), "standard input can be read only once"),
            (
                ("http://a/", "--concurrency", "0"),
                "argument --concurrency: must be a whole number of at least 1",
            ),
            (("http://a/", "--label", "x" * 201), "argument --label: must be at most 200 characters"),
        ],
    )
    def test_2_where_it_was_called_wrongly(self, arguments, text):
        called = Called(*arguments)
        assert called.code == 2
        assert text in called.err
        assert not Run.objects.exists()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--concurrency", "many"), "argument --concurrency: must be a whole number, not 'many'"),
            (("--max-body", "10 stone"), "argument --max-body: must be a size such as 512KiB"),
            (("--allow-network", "10.0.0.0/33"), "argument --allow-network: "),
            (("--header", "s3cret"), "argument --header: must look like 'Name: value'"),
        ],
    )
    def test_a_value_that_cannot_be_read_is_named(self, arguments, text):
        found = call("fetch_urls", "http://a/", *arguments)
        assert found.returncode == 2
        assert text in found.stderr
        assert "s3cret" not in found.stderr
        assert "Traceback" not in found.stderr

    def test_1_where_a_file_cannot_be_read(self, tmp_path):
        called = Called("--file", str(tmp_path / "none.txt"))
        assert called.code == 1
        assert called.err == f"CommandError: {tmp_path}/none.txt: cannot be read: no such file or directory\n"

    def test_1_where_a_headers_variable_is_not_set(self, urls):
        called = Called(*urls, "--header", "Authorization: env:TRAWL_TEST_UNSET")
        assert called.code == 1
        assert "needs the environment variable TRAWL_TEST_UNSET" in called.err


class TestMessages:
    def test_name_file_line_and_reason_of_rejected_lines(self, tmp_path, urls):
        path = tmp_path / "urls.txt"
        path.write_text(f"# list\n{urls[0]}\nftp://a.example/\nhttp://user:s3cret@b.example/\n")
        called = Called("--file", str(path), *ALLOW)
        assert f"{path}:3: rejected: 'ftp://a.example/' the scheme 'ftp' is not supported" in called.err
        assert f"{path}:4: rejected: 'http://***@b.example/' contains a user name or password" in called.err
        assert "s3cret" not in called.err + called.out
        assert list(RejectedLine.objects.values_list("line", flat=True)) == [3, 4]

    @pytest.mark.parametrize("options", [(), ("--plan",)])
    def test_name_what_was_repaired_in_a_file_once(self, tmp_path, urls, options):
        path = tmp_path / "urls.csv"
        path.write_text(f"url,label,body\n{urls[0]},One\n\xa0{urls[1]}\n", encoding="utf-8")
        called = Called("--file", str(path), *ALLOW, *options)
        assert called.code == 0
        assert called.err.count("reported once for each file") == 2
        assert f"{path}:2: the row has fewer cells than the header row" in called.err
        assert f"{path}:3: removed no-break spaces or invisible characters" in called.err

    def test_of_rejected_lines_end_after_a_few(self, tmp_path):
        (tmp_path / "urls.txt").write_text("no url\n" * 100)
        called = Called("--file", str(tmp_path / "urls.txt"))
        assert called.err.count("rejected: ") == 20
        assert "more lines are rejected" in called.err
        assert RejectedLine.objects.count() == 100

    def test_of_a_blocked_address_name_the_option_that_allows_it(self):
        called = Called("http://127.0.0.1/", "--max-attempts", "1")
        assert called.code == 3
        assert "allow it with --allow-network 127.0.0.1/32" in called.out

    def test_help_lists_defaults_and_examples(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "300")
        text = call("fetch_urls", "--help").stdout
        for part in ("(default: 100)", "(default: 10MiB)", "--host-failures", "examples:", "exit codes:"):
            assert part in text

    @pytest.mark.parametrize("style", ["bar", "plain", "none"])
    def test_progress_never_goes_to_standard_output(self, urls, style):
        called = Called(*urls, *ALLOW, "--output", "ndjson", "--progress", style)
        assert len([json.loads(line) for line in called.out.splitlines()]) == 3


class TestOutput:
    def test_json_is_one_document(self, urls, threaded_origin):
        called = Called(*urls, threaded_origin.url("/missing/é"), *ALLOW, "--output", "json", "--label", "nämlich")
        document = json.loads(called.out)
        assert document["run"]["label"] == "nämlich"
        assert (document["run"]["total"], document["run"]["state"]) == (4, "completed")
        assert sorted(item["position"] for item in document["items"]) == [0, 1, 2, 3]

    def test_json_of_nothing_is_a_document_too(self, tmp_path):
        (tmp_path / "none.txt").touch()
        assert json.loads(Called("--file", str(tmp_path / "none.txt"), "--output", "json").out)["items"] == []

    def test_ndjson_from_standard_input_is_nothing_but_lines_of_json(self, urls):
        given = "".join(f"{url}\n" for url in urls) + "no url\n"
        found = manage("fetch_urls", "-", *ALLOW, "--output", "ndjson", given=given, env={"LC_ALL": "C"})
        assert {json.loads(line)["url"] for line in found.stdout.splitlines()} == set(urls)
        assert found.returncode == 3
        assert "stdin:4: rejected" in found.stderr

    def test_ndjson_is_printed_as_results_are_saved(self, urls):
        with start("fetch_urls", "-", *ALLOW, "--output", "ndjson") as process:
            process.stdin.write(f"{urls[0]}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["url"] == urls[0]  # while the input is still open
            process.stdin.close()
            assert process.wait(20) == 0

    @pytest.mark.parametrize("output", ["ndjson", "json", "summary"])
    def test_that_nobody_reads_is_no_error(self, urls, output):
        with closed_pipe() as stream:
            found = call("fetch_urls", *urls, *ALLOW, "--output", output, stdout=stream)
        assert (found.returncode, found.stderr) == (0, "")
        assert Result.objects.count() == 3

    def test_a_name_that_is_not_utf8_is_no_error(self, urls, tmp_path):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
        Path(path).write_text(f"{urls[0]}\nno url\n")
        found = manage("fetch_urls", "--file", path, *ALLOW, "--label", "caf\udce9")
        assert found.returncode == 3
        assert "Traceback" not in found.stderr
        assert Run.objects.get().label == "caf?"


class TestSecrets:
    def test_are_in_no_file_of_the_database(self, urls):
        called = Called(*urls, *ALLOW, "--header", "Authorization: Bearer s3cret-literal", "--output", "json")
        assert called.code == 0
        assert "s3cret-literal" not in called.out + called.err
        if connection.vendor == "sqlite":
            assert b"s3cret-literal" not in raw_database()


def raw_database() -> bytes:
    """Return every byte of the SQLite database's files.

    Read by another process: closing the file in this one would drop the locks of its connection.
    """
    name = Path(connection.settings_dict["NAME"])
    return subprocess.run(["cat", *name.parent.glob(f"{name.name}*")], capture_output=True, check=True).stdout


@pytest.fixture
def echo(threaded_origin) -> str:
    return threaded_origin.url("/echo")


def sent(called: Called) -> dict:
    """Return the one request that was echoed: its method, headers by lower-case name, body."""
    [item] = json.loads(called.out)["items"]
    with_body = Result.objects.select_related("representation__body").get(pk=item["id"])
    found = json.loads(read_body(with_body.representation.body))
    return {
        "method": found["method"],
        "headers": {name.lower(): value for name, value in found["headers"]},
        "body": base64.b64decode(found["body"]),
    }


class TestRequests:
    def test_data_implies_post_and_says_nothing_of_its_type(self, echo):
        request = sent(Called(echo, *ALLOW, "--output", "json", "--data", "a=1"))
        assert (request["method"], request["body"]) == ("POST", b"a=1")
        assert "content-type" not in request["headers"]

    def test_method_and_header_go_with_data(self, echo, tmp_path):
        (tmp_path / "body").write_bytes(b'{"a": 1}\n')
        options = ("--method", "put", "--data", f"@{tmp_path}/body", "--header", "Content-Type: application/json")
        request = sent(Called(echo, *ALLOW, "--output", "json", *options))
        assert (request["method"], request["body"]) == ("PUT", b'{"a": 1}\n')
        assert request["headers"]["content-type"] == "application/json"

    def test_data_comes_from_standard_input(self, echo):
        manage("fetch_urls", echo, *ALLOW, "--data", "@-", given="from stdin")
        assert bytes(Target.objects.get().body) == b"from stdin"

    def test_a_target_of_a_list_keeps_what_it_says(self, echo, tmp_path):
        path = tmp_path / "targets.list"
        path.write_text(json.dumps({"url": echo, "method": "DELETE", "headers": {"X-A": "own"}}))
        options = ("--file", str(path), "--format", "jsonl", "--data", "x", "--header", "X-A: run", "--header", "B: 2")
        request = sent(Called(*options, *ALLOW, "--output", "json"))
        assert (request["method"], request["body"]) == ("DELETE", b"")
        assert (request["headers"]["x-a"], request["headers"]["b"]) == ("own", "2")

    def test_user_env_becomes_basic_authentication_and_is_stored_nowhere(self, echo, monkeypatch):
        monkeypatch.setenv("TRAWL_TEST_LOGIN", "üser:s3cret-literal")
        request = sent(Called(echo, *ALLOW, "--output", "json", "--user-env", "TRAWL_TEST_LOGIN"))
        value = request["headers"]["authorization"]
        assert base64.b64decode(value.removeprefix("Basic ")).decode() == "üser:s3cret-literal"
        assert Run.objects.get().options["headers"] == [["Authorization", {"env": "TRAWL_TEST_LOGIN", "basic": True}]]
        assert Run.objects.get().secrets is None

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "needs the environment variable TRAWL_TEST_LOGIN, which is not set"),
            ("s3cret", "must hold user:password; it has no colon"),
            ("user:s3cret\n", "has a line break or control character"),
        ],
    )
    def test_a_variable_that_holds_no_login_is_an_error_before_the_start(self, echo, monkeypatch, value, text):
        if value is None:
            monkeypatch.delenv("TRAWL_TEST_LOGIN", raising=False)
        else:
            monkeypatch.setenv("TRAWL_TEST_LOGIN", value)
        called = Called(echo, *ALLOW, "--user-env", "TRAWL_TEST_LOGIN")
        assert called.code == 1
        assert text in called.err
        assert "s3cret" not in called.err
        assert not Run.objects.exists()

    def test_a_targets_own_variable_that_is_not_set_fails_that_target_only(self, echo, urls, tmp_path, settings):
        settings.FETCHER_LIST_ENVIRONMENT = "TRAWL_TEST_UNSET"
        path = tmp_path / "list.jsonl"
        bad = json.dumps({"url": echo, "headers": {"Authorization": "env:TRAWL_TEST_UNSET"}})
        path.write_text(f'{bad}\n"{urls[0]}"\n')
        assert Called("--file", str(path), *ALLOW).code == 3
        [failed] = Result.objects.filter(status="failed")
        assert failed.error_kind == "internal"
        assert "TRAWL_TEST_UNSET, which is not set" in failed.error_detail

    def test_max_redirects_0_makes_the_redirect_the_result(self, threaded_origin):
        called = Called(threaded_origin.url("/redirect/2/1"), *ALLOW, "--max-redirects", "0", "--output", "json")
        assert called.code == 0
        assert json.loads(called.out)["items"][0]["http_status"] == 302

    def test_user_agent_is_sent(self, echo):
        request = sent(Called(echo, *ALLOW, "--user-agent", "me/1", "--output", "json"))
        assert request["headers"]["user-agent"] == "me/1"


class TestWhatIsKept:
    def test_extract_is_served_for_answers_and_for_304s(self, threaded_origin):
        url = threaded_origin.url("/etag/7")
        for status in ("succeeded", "not_modified"):
            [item] = json.loads(Called(url, *ALLOW, "--extract", "etag", "--output", "json").out)["items"]
            assert (item["status"], str(item["extracted"])) == (status, "7")

    def test_no_body_keeps_the_hash_alone(self, threaded_origin):
        url = threaded_origin.url("/etag/7")
        [item] = json.loads(Called(url, *ALLOW, "--no-body", "--output", "json").out)["items"]
        assert item["body_sha256"]
        assert (item["body_url"], Body.objects.get().content) == (None, None)

    def test_what_no_body_left_out_is_fetched_again_and_then_kept(self, threaded_origin):
        url = threaded_origin.url("/etag/7")
        Called(url, *ALLOW, "--no-body")
        [item] = json.loads(Called(url, *ALLOW, "--output", "json").out)["items"]
        assert (item["status"], item["changed"]) == ("succeeded", False)
        assert Body.objects.get().content is not None

    def test_no_conditional_asks_for_everything_again(self, threaded_origin):
        url = threaded_origin.url("/etag/7")
        Called(url, *ALLOW)
        assert "succeeded  1" in Called(url, *ALLOW, "--no-conditional").out

    def test_a_second_run_says_what_304s_saved(self, threaded_origin):
        url = threaded_origin.url("/etag/7")
        Called(url, *ALLOW)
        size = Body.objects.get().size
        assert f"answered 304, which saved {size} B" in Called(url, *ALLOW).out
        figures = json.loads(Called(url, url, "no url", *ALLOW, "--output", "json").out)["summary"]
        assert (figures["not_modified"], figures["unchanged_bytes"]) == (1, size)
        assert (figures["duplicates"], figures["rejected"]) == (1, 1)


class TestStoredOptions:
    def test_are_those_of_the_call(self, echo):
        Called(echo, *ALLOW, "--data", "x", "--extract", "a", "--no-body", "--no-conditional", "--method", "PUT")
        options = Run.objects.get().options
        assert {name: options[name] for name in ("method", "data_bytes", "extract", "keep_body", "conditional")} == {
            "method": "PUT", "data_bytes": 1, "extract": "a", "keep_body": False, "conditional": False,
        }  # fmt: skip


class TestPlan:
    def plan(self, *arguments: str) -> dict:
        return json.loads(Called(*arguments, "--plan", "--output", "json").out)

    def test_requests_and_saves_nothing(self, urls, threaded_origin):
        found = self.plan(*urls, urls[0])
        assert (found["targets"], found["duplicates"], found["hosts"]) == (3, 1, 1)
        assert not threaded_origin.log
        assert not Run.objects.exists()

    def test_knows_what_will_probably_cost_a_304(self, threaded_origin):
        url = threaded_origin.url("/etag/7")
        Called(url, *ALLOW)
        found = self.plan(url)
        assert (found["known"], found["conditional"], found["earlier_results"]) == (1, 1, 1)
        assert found["estimate_ms"] >= found["at_least_ms"] > 0
        assert "1  have validators and probably cost only a 304" in Called(url, "--plan").out

    def test_tells_the_bound_by_the_busiest_host(self, tmp_path):
        (tmp_path / "list.txt").write_text("".join(f"http://a.example/{number}\n" for number in range(121)))
        options = ("--file", str(tmp_path / "list.txt"), "--host-delay", "0.5")
        assert self.plan(*options)["at_least_ms"] == 60_000
        out = Called(*options, "--plan").out
        assert out.startswith("Plan: 121 targets on 1 host; nothing was requested or saved\n")
        assert "At least  1 min 00 s (at most 8 at once to a host, 100 in all, 0.5 s between two to a host)\n" in out

    def test_3_where_a_line_is_rejected(self, urls):
        called = Called(*urls, "no url", "--plan")
        assert called.code == 3
        assert "rejected: 'no url'" in called.err
        assert Called(*urls, "no url", "--plan", "--exit-zero").code == 0

    def test_of_nothing(self, tmp_path):
        (tmp_path / "none.txt").touch()
        assert "Plan: 0 targets on 0 hosts" in Called("--file", str(tmp_path / "none.txt"), "--plan").out

    def test_2_with_a_line_for_each_result(self, urls):
        called = Called(*urls, "--plan", "--output", "ndjson")
        assert (called.code, "argument --plan: " in called.err) == (2, True)

    def test_1_where_a_file_cannot_be_read(self, tmp_path):
        (tmp_path / "list.csv").write_text("a,b\n1,2\n")
        called = Called("--file", str(tmp_path / "list.csv"), "--plan")
        assert called.code == 1
        assert "Traceback" not in called.err


class TestTargetSecrets:
    def test_are_sealed_while_the_run_goes_on_and_gone_when_it_is_over(self, urls, threaded_origin, tmp_path):
        path = tmp_path / "list.jsonl"
        secret = {"Authorization": "Bearer s3cret-literal", "X-A": "shown"}
        hanging = threaded_origin.url("/hang/1")
        path.write_text("".join(json.dumps({"url": url, "headers": secret}) + "\n" for url in (urls[0], hanging)))
        with start("fetch_urls", "--file", str(path), *ALLOW, "--progress", "none", stdin=None) as process:
            wait_for(Result.objects.exists)
            stored = [decode_payload(bytes(payload)) for payload in Shard.objects.values_list("payload", flat=True)]
            assert all(payload.sealed for payload in stored)
            if connection.vendor == "sqlite":
                assert b"s3cret-literal" not in raw_database()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        Called("--file", str(path), "--deadline", "0.5", "--max-attempts", "1", *ALLOW)
        run = Run.objects.latest("id")
        assert run.state == RunState.COMPLETED
        assert run.secrets is None
        assert not any(decode_payload(bytes(shard.payload)).sealed for shard in run.shards.all())

    def test_are_sent_and_never_shown(self, echo, tmp_path):
        path = tmp_path / "list.jsonl"
        path.write_text(json.dumps({"url": echo, "headers": {"X-Api-Key": "s3cret-literal"}}))
        called = Called("--file", str(path), *ALLOW, "--no-body", "--output", "json", "--extract", "headers[*][0]")
        assert "X-Api-Key" in str(json.loads(called.out)["items"][0]["extracted"])
        assert "s3cret-literal" not in called.out + called.err
        if connection.vendor == "sqlite":
            assert b"s3cret-literal" not in raw_database()


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_stop_the_run_and_save_what_was_fetched(self, urls, threaded_origin, number, code, monkeypatch):
        monkeypatch.setenv("FETCHER_GRACE", "0.5")
        hanging = threaded_origin.url("/hang/1")
        with start("fetch_urls", *urls, hanging, *ALLOW, "--output", "ndjson", stdin=subprocess.DEVNULL) as process:
            assert len([process.stdout.readline() for _ in urls]) == 3
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == code
        assert "stopping: 1 request in flight may take up to 0.5 s; again to stop at once\n" in errors
        run = Run.objects.get()
        assert errors.endswith(
            f"interrupted: 3 of 4 targets are saved. Go on with: {program()} fetch_urls --resume {run.pk}\n"
        )
        assert "Traceback" not in errors
        assert run.state == RunState.INTERRUPTED
        assert not Worker.objects.exists()

    def test_end_a_command_that_waits_for_input(self):
        with start("fetch_urls", "-", "--progress", "none") as process:
            wait_for(lambda: Run.objects.filter(state="running").exists())
            process.send_signal(signal.SIGINT)
            wait_for(lambda: process.poll() is not None)
            assert process.returncode == 130
            assert process.stderr.read() == (
                "interrupted: 0 of 0 targets are saved; the input was not read to its end. "
                f"Go on with: {program()} fetch_urls --resume {Run.objects.get().pk}\n"
            )

    def test_give_what_is_in_flight_time_to_finish(self, threaded_origin):
        slow = threaded_origin.url("/slow/1?ms=1500")
        with start("fetch_urls", slow, threaded_origin.url("/hang/1"), *ALLOW, stdin=subprocess.DEVNULL) as process:
            wait_for(lambda: len(threaded_origin.log) == 2)
            process.send_signal(signal.SIGTERM)
            wait_for(Result.objects.exists)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
        assert process.returncode == 143
        assert Result.objects.get().status == "succeeded"

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_twice_stop_at_once(self, threaded_origin, number, code):
        with start("fetch_urls", threaded_origin.url("/hang/1"), *ALLOW, stdin=subprocess.DEVNULL) as process:
            wait_for(lambda: bool(threaded_origin.log))
            process.send_signal(number)
            assert "stopping: 1 request in flight" in process.stderr.readline()
            process.send_signal(number)
            _, errors = process.communicate(timeout=5)  # half of the grace period
        assert process.returncode == code
        assert "--resume" in errors
        assert "Traceback" not in errors


class TestDatabases:
    """What is wrong is one clear line, whatever is wrong."""

    def line(self, url: str) -> str:
        with using_database(url):
            return self.only_line(call("fetch_urls", "http://127.0.0.1/"))

    def line_of_a_process(self, url: str) -> str:
        return self.only_line(manage("fetch_urls", "http://127.0.0.1/", env={"DATABASE_URL": url}))

    def only_line(self, found: subprocess.CompletedProcess[str]) -> str:
        assert found.returncode == 1
        assert found.stdout == ""
        assert "Traceback" not in found.stderr
        [line] = found.stderr.splitlines()
        return line

    def test_unreachable(self):
        for line in (self.line(PORT_CLOSED), self.line_of_a_process(PORT_CLOSED)):
            assert "the database cannot be used" in line
            assert "check DATABASE_URL" in line

    def test_that_was_not_migrated(self):
        if connection.vendor == "sqlite":
            pytest.skip("a SQLite file is migrated on first use; see the tests of bootstrap")
        url = database_url().rpartition("/")[0] + "/template1"
        assert re.search(r"not up to date: \d+ migrations are missing. Run: python manage.py migrate", self.line(url))

    def test_no_folder_for_it(self, tmp_path):
        assert f"there is no folder {tmp_path}/none" in self.line(f"sqlite:///{tmp_path}/none/db.sqlite3")

    def test_not_a_database(self, tmp_path):
        (tmp_path / "db.sqlite3").write_text("no database, but long enough to have had a header")
        assert "file is not a database" in self.line(f"sqlite:///{tmp_path}/db.sqlite3")

    def test_of_an_unknown_kind(self):
        line = self.line_of_a_process("oracle://user:s3cret@host/name")
        assert line.startswith("The settings cannot be used: DATABASE_URL cannot be read")
        assert "s3cret" not in line


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
