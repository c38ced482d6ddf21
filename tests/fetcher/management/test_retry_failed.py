"""``manage.py fetch_urls --retry-failed``, from its call to its exit code."""

from __future__ import annotations

import json
import signal

import pytest

from fetcher.engine.errors import ErrorKind
from fetcher.models import Result, Run, Worker
from fetcher.store import leases, runs
from tests.support.commands import Called, start
from tests.support.processes import free_port

ALLOW = ("--allow-network", "127.0.0.1")
ONCE = ("--max-attempts", "1")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def flaky(threaded_origin) -> list[str]:
    """URLs that fail once with 503 and succeed from then on."""
    return [threaded_origin.url(f"/flaky/{number}", number % 3) for number in range(5)]


@pytest.fixture
def failed(flaky, threaded_origin) -> int:
    """A run of which five failed with 503, one with 404, one to connect, and two succeeded."""
    refused = f"http://127.0.0.1:{free_port()}/"
    others = [threaded_origin.url("/ok/1"), threaded_origin.url("/missing/1"), refused, threaded_origin.url("/ok/2")]
    assert Called(*others, *flaky, *ALLOW, *ONCE, "--label", "first").code == 3
    return Run.objects.get().pk


def statuses(run: int) -> dict[str, str]:
    return dict(Result.objects.filter(run=run).values_list("target__url", "status"))


class TestARetry:
    def test_fetches_only_what_failed(self, failed, flaky, threaded_origin):
        before = len(threaded_origin.log)
        called = Called("--retry-failed", str(failed), *ONCE, "--output", "json")
        assert called.code == 3  # the missing one is missing still
        document = json.loads(called.out)
        found = {item["url"]: item["status"] for item in document["items"]}
        assert {url for url, status in found.items() if status == "succeeded"} == set(flaky)
        assert sorted(found.values()) == ["failed"] * 2 + ["succeeded"] * 5
        assert len(threaded_origin.log) - before == 6
        assert (document["run"]["state"], document["run"]["total"], document["run"]["label"]) == (
            "completed",
            7,
            "first",
        )
        assert document["run"]["source"] == f"failures of run {failed}"

    def test_is_a_run_of_its_own_and_changes_nothing_of_the_other(self, failed):
        before = list(Result.objects.filter(run=failed).order_by("id").values())
        Called("--retry-failed", str(failed))
        run = Run.objects.latest("id")
        assert run.parent_id == failed
        assert list(Result.objects.filter(run=failed).order_by("id").values()) == before

    def test_keeps_each_targets_position(self, failed):
        before = dict(Result.objects.filter(run=failed).unsuccessful().values_list("target", "position"))
        Called("--retry-failed", str(failed))
        assert dict(Result.objects.filter(run=Run.objects.latest("id").pk).values_list("target", "position")) == before

    def test_is_restricted_by_causes_in_one_option_or_several(self, failed, flaky):
        called = Called("--retry-failed", "latest", "--cause", "dns,http_status:5xx", "--cause", "tls")
        assert called.code == 0
        run = Run.objects.latest("id")
        assert statuses(run.pk) == dict.fromkeys(flaky, "succeeded")
        assert run.source == f"failures of run {failed} (dns, http_status:5xx, tls)"

    def test_prints_each_result_as_it_is_saved(self, failed):
        called = Called("--retry-failed", str(failed), "--cause", "http_status:503", "--output", "ndjson")
        assert [json.loads(line)["status"] for line in called.out.splitlines()] == ["succeeded"] * 5

    def test_of_a_retry_goes_on_with_what_is_left(self, failed):
        Called("--retry-failed", "latest", *ONCE)
        Called("--retry-failed", "latest", *ONCE)
        first, second, third = Run.objects.order_by("id")
        assert (second.parent_id, third.parent_id) == (first.pk, second.pk)
        assert set(statuses(third.pk).values()) == {"failed"}
        assert len(statuses(third.pk)) == 2

    def test_is_what_the_summary_of_the_failed_run_tells(self, flaky):
        called = Called(*flaky, *ALLOW, *ONCE)
        [line] = [line for line in called.out.splitlines() if "Try again" in line]
        arguments = line.partition("fetch_urls ")[2].split()
        assert Called(*arguments).code == 0

    def test_that_is_interrupted_keeps_what_it_did(self, threaded_origin):
        urls = [threaded_origin.url("/flaky/1"), threaded_origin.url("/hang/1")]
        Called(*urls, *ALLOW, *ONCE, "--deadline", "0.2")
        arguments = ("--retry-failed", "latest", "--deadline", "60", "--output", "ndjson")
        with start("fetch_urls", *arguments, stdin=None) as process:
            assert json.loads(process.stdout.readline())["status"] == "succeeded"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        assert process.returncode == 130
        assert Run.objects.latest("id").state == "interrupted"


class TestOptions:
    def test_are_the_other_runs(self, failed):
        Called("--retry-failed", str(failed))
        first, second = Run.objects.order_by("id")
        assert second.options == first.options

    def test_that_are_given_go_on_top(self, failed):
        given = ("--deadline", "7", "--no-body", "--header", "X-A: 2", "--label", "")
        Called("--retry-failed", str(failed), *given)
        first, second = Run.objects.order_by("id")
        assert second.options == {**first.options, "deadline": 7, "keep_body": False, "headers": [["X-A", "2"]]}
        assert second.label == ""

    @pytest.mark.parametrize(("given", "expected"), [((), False), (("--body", "--conditional"), True)])
    def test_that_are_on_by_default_stay_off_unless_given(self, flaky, given, expected):
        Called(*flaky, *ALLOW, *ONCE, "--no-body", "--no-conditional")
        Called("--retry-failed", "latest", *given)
        options = Run.objects.latest("id").options
        assert (options["keep_body"], options["conditional"]) == (expected, expected)

    def test_take_networks_that_the_settings_allow_by_now(self, threaded_origin, settings):
        assert Called(threaded_origin.url("/ok/1"), *ONCE).code == 3
        settings.FETCHER_ALLOWED_NETWORKS = "127.0.0.1/32"
        assert Called("--retry-failed", "latest", "--cause", "blocked_address").code == 0

    def test_keep_secret_what_the_settings_keep_secret_by_now(self, flaky, settings):
        Called(*flaky, *ALLOW, *ONCE, "--header", "X-Token: s3cret")
        settings.FETCHER_SECRET_HEADERS = "x-token"
        Called("--retry-failed", "latest")
        assert ["X-Token", None] in Run.objects.latest("id").options["headers"]


class TestSecretHeaders:
    @pytest.fixture
    def run(self, flaky) -> int:
        Called(*flaky, *ALLOW, *ONCE, "--header", "Authorization: Bearer s3cret-literal", "--header", "X-A: 1")
        return Run.objects.get().pk

    def test_that_went_with_the_run_must_be_given_again(self, run):
        called = Called("--retry-failed", str(run))
        assert called.code == 1
        assert called.err == (
            f"CommandError: the value of Authorization was secret and was removed when run {run} was over; "
            "give it again: --header 'Authorization: …'\n"
        )
        assert Run.objects.count() == 1

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (("--header", "authorization: Bearer again"), "Bearer again"),
            (("--user-env", "TRAWL_TEST_LOGIN"), "Basic dXNlcjphZ2Fpbg=="),
        ],
        ids=["header", "env"],
    )
    def test_that_are_given_again_are_sent(self, run, given, sent, threaded_origin, monkeypatch):
        monkeypatch.setenv("TRAWL_TEST_LOGIN", "user:again")
        assert Called("--retry-failed", str(run), *given).code == 0
        last = threaded_origin.log[-1]
        assert (last.header("authorization"), last.header("x-a")) == (sent, "1")

    def test_that_the_settings_have_need_not_be_given(self, run, threaded_origin, settings):
        settings.FETCHER_HEADERS = "Authorization: Bearer again"
        assert Called("--retry-failed", str(run)).code == 0
        assert threaded_origin.log[-1].header("authorization") == "Bearer again"

    def test_that_name_a_variable_are_read_again(self, flaky, monkeypatch):
        monkeypatch.setenv("TRAWL_TEST_TOKEN", "one")
        Called(*flaky, *ALLOW, *ONCE, "--header", "Authorization: env:TRAWL_TEST_TOKEN")
        monkeypatch.delenv("TRAWL_TEST_TOKEN")
        called = Called("--retry-failed", "latest")
        assert called.code == 1
        assert "needs the environment variable TRAWL_TEST_TOKEN" in called.err

    def test_of_a_target_that_went_fail_it_with_a_clear_reason(self, threaded_origin, tmp_path):
        path = tmp_path / "list.jsonl"
        path.write_text(json.dumps({"url": threaded_origin.url("/flaky/1"), "headers": {"Cookie": "s3cret"}}))
        Called("--file", str(path), *ALLOW, *ONCE)
        assert Called("--retry-failed", "latest").code == 3
        last = Result.objects.latest("id")
        assert last.error_detail == "the value of Cookie was secret and is not stored any more; give it again"


class TestNothingToRetry:
    @pytest.fixture
    def run(self, threaded_origin) -> int:
        Called(threaded_origin.url("/ok/1"), threaded_origin.url("/missing/1"), *ALLOW)
        return Run.objects.get().pk

    def test_is_said_and_is_no_error_and_no_run(self, run):
        called = Called("--retry-failed", str(run), "--cause", "dns,http_status:429")
        assert called.code == 0
        assert called.out == ""
        assert called.err == (
            f"run {run} has no failures by dns, http_status:429; it has 1 http_status 404: nothing is fetched\n"
        )
        assert Run.objects.count() == 1

    def test_in_a_run_without_failures(self, threaded_origin):
        Called(threaded_origin.url("/ok/1"), *ALLOW)
        called = Called("--retry-failed", "latest")
        assert (called.code, called.err) == (0, f"run {Run.objects.get().pk} has no failures: nothing is fetched\n")

    def test_is_a_document_without_a_run(self, run):
        called = Called("--retry-failed", str(run), "--cause", "dns", "--output", "json")
        document = json.loads(called.out)
        assert (called.code, document["run"], document["items"]) == (0, None, [])
        assert document["summary"]["bytes"] == 0

    def test_is_no_line(self, run):
        assert Called("--retry-failed", str(run), "--cause", "dns", "--output", "ndjson").out == ""


class TestPlan:
    def test_counts_what_failed_and_requests_and_saves_nothing(self, failed, threaded_origin):
        before = len(threaded_origin.log)
        hosts = Result.objects.unsuccessful().filter(run=failed).values("target__host").distinct().count()
        called = Called("--retry-failed", str(failed), "--plan", "--output", "json")
        plan = json.loads(called.out)
        assert (called.code, plan["targets"], plan["hosts"], plan["duplicates"]) == (0, 7, hosts, 0)
        assert len(threaded_origin.log) == before
        assert Run.objects.count() == 1

    def test_is_narrowed_by_cause(self, failed):
        called = Called("--retry-failed", str(failed), "--plan", "--cause", "http_status:5xx")
        assert called.out.startswith("Plan: 5 targets on ")

    def test_knows_what_succeeded_before(self, failed, flaky):
        Called(*flaky, *ALLOW)
        plan = json.loads(Called("--retry-failed", str(failed), "--plan", "--output", "json").out)
        assert plan["known"] == 5

    def test_reads_more_failures_than_one_window(self, failed, monkeypatch):
        monkeypatch.setattr("fetcher.store.retry.WINDOW", 2)
        plan = json.loads(Called("--retry-failed", str(failed), "--plan", "--output", "json").out)
        assert plan["targets"] == 7


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("http://a/",), "argument URL: not allowed with --retry-failed: its URLs are those of the other run"),
            (("-",), "argument URL: not allowed with --retry-failed"),
            (("--file", "urls.txt"), "argument --file: not allowed with --retry-failed"),
            (("--format", "csv"), "argument --format: not allowed with --retry-failed"),
            (("--plan", "--output", "ndjson"), "argument --plan: prints one summary"),
            (("--plan", "--queue"), "argument --plan: not allowed with --queue"),
            (("--method", "PUT"), "argument --method: not allowed with --retry-failed: each target keeps the method"),
            (("--data", ""), "argument --data: not allowed with --retry-failed: each target keeps the method and body"),
            (("--concurrency", "0"), "argument --concurrency: must be a whole number of at least 1"),
            (("--label", "x" * 201), "argument --label: must be at most 200 characters"),
        ],
    )
    def test_is_a_usage_error(self, failed, arguments, text):
        called = Called("--retry-failed", str(failed), *arguments)
        assert called.code == 2
        assert called.err.startswith(f"CommandError: {text}")
        assert Run.objects.count() == 1

    def test_cause_alone_is_a_usage_error(self):
        called = Called("http://a/", "--cause", "dns")
        assert (called.code, called.err) == (2, "CommandError: argument --cause: goes with --retry-failed RUN only\n")

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--retry-failed", "first"), "argument --retry-failed: must be a run's number or latest, not 'first'"),
            (("--retry-failed", "0"), "argument --retry-failed: must be a run's number or latest, not '0'"),
            (("--retry-failed",), "argument --retry-failed: expected one argument"),
            (
                ("--retry-failed", "1", "--cause", "slow"),
                f"argument --cause: must be one of {', '.join(ErrorKind)}, not",
            ),
            (("--retry-failed", "1", "--cause", "dns:1"), "argument --cause: only http_status can be narrowed"),
        ],
    )
    def test_a_value_that_cannot_be_read_is_named(self, arguments, text):
        called = Called(*arguments)
        assert called.code == 2
        assert text in called.err

    @pytest.mark.parametrize(
        ("reference", "text"), [("77", "there is no run 77; "), ("latest", "there is no run yet; ")]
    )
    def test_a_run_that_does_not_exist(self, reference, text):
        called = Called("--retry-failed", reference)
        assert called.code == 1
        assert called.err.startswith(f"CommandError: {text}")

    def test_a_run_that_is_being_worked_on(self, failed):
        worker = leases.register_worker(failed)
        Run.objects.filter(pk=failed).update(state="running")
        leases.lease_lanes(failed, worker)
        called = Called("--retry-failed", str(failed))
        assert called.code == 1
        assert f"run {failed} is running: its failures can be fetched again when it is over" in called.err
        assert Run.objects.count() == 1

    def test_a_run_that_has_not_begun(self, failed):
        Run.objects.filter(pk=failed).update(state="pending")
        assert "is pending: " in Called("--retry-failed", str(failed)).err


class TestAnInterruptedRun:
    def test_has_its_failures_fetched_and_says_what_else_there_is(self, failed):
        Run.objects.filter(pk=failed).update(state="interrupted", planned_at=None)
        Result.objects.filter(run=failed, status="succeeded").first().delete()
        runs.Lane.objects.filter(run=failed, succeeded__gt=0).update(succeeded=0)
        called = Called("--retry-failed", str(failed), "--cause", "http_status:503")
        assert called.code == 0
        assert "without a result, which are not among its failures; fetch_urls --resume" in called.err
        assert not Worker.objects.exists()
