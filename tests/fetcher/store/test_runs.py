"""A run from its creation to its end, and its options to and from the row."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import override_settings

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.models import Run, RunState, Worker
from fetcher.options import RunOptions
from fetcher.secrets import UnsealError
from fetcher.store import cluster, leases, runs
from fetcher.store.plan import Planner
from tests.support.stored import entries, open_targets, outcome, plan, record

SECRET = FetchConfig(headers=(("Authorization", "Bearer s3cret"), ("X-A", "1"), ("Cookie", EnvReference("SESSION"))))
URLS = ("http://a.example/1", "http://b.example/")

pytestmark = pytest.mark.django_db


class TestOptions:
    @pytest.mark.parametrize(
        "config",
        [
            FetchConfig(),
            SECRET,
            FetchConfig(
                concurrency=7,
                host_delay=0.25,
                headers=(("Accept", "a"), ("Accept", "b")),
                secret_headers=frozenset({"x-key"}),
                guarded_headers=frozenset({"accept", "b"}),
                headers_hosts=("a.example", "*.b.example:81"),
                allowed_networks=tuple(map(AllowedNetwork.parse, ["10.0.0.0/8", "127.0.0.1:8000", "[::1]:80"])),
            ),
        ],
    )
    def test_come_back_as_they_were(self, config):
        assert runs.load_config(Run.objects.get(pk=runs.create_run(config))) == config

    @pytest.mark.parametrize(
        "options",
        [
            RunOptions(),
            RunOptions(method="PUT", data=b"pass\xff", extract="a.b", keep_body=False, conditional=False),
            RunOptions(data=b""),
        ],
    )
    @pytest.mark.parametrize("config", [FetchConfig(), SECRET])
    def test_beside_the_configuration_come_back_as_well(self, options, config):
        run = Run.objects.get(pk=runs.create_run(config, options))
        assert runs.load_options(run) == options
        assert runs.load_config(run) == config

    def test_show_of_a_body_only_its_length(self):
        run = Run.objects.get(pk=runs.create_run(FetchConfig(), RunOptions(data=b"s3cret")))
        assert run.options["data_bytes"] == 6
        assert b"s3cret" not in json.dumps(run.options).encode() + bytes(run.secrets)

    def test_of_a_run_from_before_they_were_known_are_the_defaults(self):
        run = Run.objects.get(pk=runs.create_run(FetchConfig()))
        for name in ("method", "data_bytes", "extract", "keep_body", "conditional"):
            del run.options[name]
        assert runs.load_options(run) == RunOptions()

    def test_show_no_literal_secret_but_the_name_of_a_variable(self):
        shown = [["Authorization", None], ["X-A", "1"], ["Cookie", {"env": "SESSION"}]]
        assert runs.dump_options(SECRET)["headers"] == shown

    def test_are_sealed_only_where_there_is_a_literal_secret(self):
        runs.create_run(FetchConfig(headers=(("Cookie", EnvReference("SESSION")), ("X-A", "1"))))
        assert Run.objects.get().secrets is None

    def test_hold_no_secret_in_clear(self):
        runs.create_run(SECRET)
        row = Run.objects.values().get()
        assert "s3cret" not in json.dumps({**row, "secrets": None}, default=str)
        assert b"s3cret" not in bytes(row["secrets"])

    def test_name_the_headers_whose_values_went_with_the_run(self):
        run = Run.objects.get(pk=runs.create_run(SECRET))
        assert runs.wiped_headers(run) == []
        runs.finish(run.pk, failed=True)
        run.refresh_from_db()
        assert runs.wiped_headers(run) == ["Authorization"]

    def test_cannot_be_read_with_another_secret_key(self):
        run = Run.objects.get(pk=runs.create_run(SECRET))
        with override_settings(SECRET_KEY="another"), pytest.raises(UnsealError, match="SECRET_KEY has changed"):
            runs.load_config(run)


class TestVariant:
    def of(self, *headers, own=()) -> bytes:
        return runs.variant_of(FetchConfig(headers=headers))(own)

    def test_is_sixteen_bytes(self):
        assert len(self.of()) == 16

    @pytest.mark.parametrize("name", ["Authorization", "Accept", "X-Anything"])
    def test_differs_by_any_header_that_may_select_the_answer(self, name):
        assert len({self.of(), self.of((name, "1")), self.of((name, "2"))}) == 3

    @pytest.mark.parametrize("name", ["User-Agent", "If-None-Match", "if-modified-since"])
    def test_does_not_differ_by(self, name):
        assert self.of((name, "1")) == self.of()

    def test_does_not_differ_by_case_or_order_of_names(self):
        assert self.of(("A", "1"), ("b", "2")) == self.of(("B", "2"), ("a", "1"))

    def test_takes_a_targets_own_header_over_the_runs(self):
        assert self.of(("A", "1"), own=(("a", "2"),)) == self.of(("A", "2"))

    def test_differs_where_some_hosts_do_not_get_every_header(self):
        guarded = {
            runs.variant_of(FetchConfig(headers=(("A", "1"),), guarded_headers=frozenset({"a"}), headers_hosts=hosts))(
                ()
            )
            for hosts in ((), ("a.example",))
        }
        assert len(guarded | {self.of(("A", "1")), self.of()}) == 4

    def test_follows_the_variables_value(self, monkeypatch):
        monkeypatch.setenv("TRAWL_TEST_TOKEN", "one")
        first = self.of(("Authorization", EnvReference("TRAWL_TEST_TOKEN")))
        assert first == self.of(("Authorization", "one"))
        monkeypatch.setenv("TRAWL_TEST_TOKEN", "two")
        assert self.of(("Authorization", EnvReference("TRAWL_TEST_TOKEN"))) != first

    def test_of_a_targets_own_variable_that_is_not_set_is_no_error(self):
        own = (("Authorization", EnvReference("TRAWL_TEST_UNSET")),)
        assert self.of(own=own) != self.of()

    @override_settings(SECRET_KEY="another")
    def test_is_no_hash_that_others_could_compute(self):
        with override_settings(SECRET_KEY="one"):
            first = self.of(("Authorization", "guess"))
        assert self.of(("Authorization", "guess")) != first


class TestStates:
    def finish(self, run: int, **options) -> Run:
        state = runs.finish(run, **options)
        row = Run.objects.get(pk=run)
        assert row.state == state
        assert row.finished_at is not None
        return row

    def test_a_new_run_is_pending_and_a_started_one_running(self):
        run = runs.create_run(FetchConfig(), label="nightly", source="urls.txt")
        row = Run.objects.get(pk=run)
        assert (row.state, row.label, row.source, row.started_at) == (RunState.PENDING, "nightly", "urls.txt", None)
        runs.start(run)
        row.refresh_from_db()
        assert row.state == RunState.RUNNING
        assert row.started_at is not None

    def test_completed_where_every_target_has_a_result(self):
        run = plan(*URLS)
        record(run, map(outcome, open_targets(run)))
        assert self.finish(run).state == RunState.COMPLETED

    def test_completed_where_the_source_was_empty(self):
        run = runs.create_run(FetchConfig())
        runs.planned(run)
        assert self.finish(run).state == RunState.COMPLETED

    def test_interrupted_where_a_target_has_no_result(self):
        run = plan(*URLS)
        record(run, map(outcome, open_targets(run)[:1]))
        assert self.finish(run).state == RunState.INTERRUPTED
        assert runs.pending(run) == 1

    def test_interrupted_where_the_source_was_not_read_to_the_end(self):
        assert self.finish(runs.create_run(FetchConfig())).state == RunState.INTERRUPTED

    def test_left_as_it_is_by_a_process_in_whose_place_another_goes_on(self):
        run = plan(*URLS)
        runs.start(run, 1)
        Run.objects.update(planner=2)
        assert runs.finish(run, worker=1) == RunState.INTERRUPTED
        row = Run.objects.get()
        assert (row.state, row.planner, row.finished_at) == (RunState.RUNNING, 2, None)

    def test_failed_where_the_caller_says_so(self):
        assert self.finish(plan(*URLS), failed=True).state == RunState.FAILED

    def test_an_interrupted_run_keeps_its_secrets_and_a_run_that_is_over_does_not(self):
        run = plan(*URLS, config=SECRET)
        row = self.finish(run)
        assert runs.load_config(row) == SECRET
        record(run, map(outcome, open_targets(run, config=FetchConfig())))
        assert self.finish(run).secrets is None

    @pytest.mark.parametrize("label", ["caf\udce9", "nul\x00", "x" * 300])
    def test_labels_that_no_database_takes_are_mended(self, label):
        runs.create_run(FetchConfig(), label=label, source=label)
        assert len(Run.objects.get().label) <= 200


class TestCancelling:
    @pytest.fixture
    def run(self) -> int:
        run = runs.create_run(SECRET)
        Planner(run).add(entries(*URLS))
        return run

    def test_ends_a_run_that_nobody_works_on_and_says_what_it_was(self, run):
        assert runs.cancel(run) == RunState.PENDING
        row = Run.objects.get()
        assert (row.state, row.secrets, row.finished_at is None) == (RunState.CANCELLED, None, False)
        assert runs.pending(run) == len(URLS)

    def test_leaves_what_is_over_as_it_is(self, run):
        runs.finish(run, failed=True, error="why")
        assert runs.cancel(run) == RunState.FAILED
        assert (Run.objects.get().state, Run.objects.get().error) == (RunState.FAILED, "why")

    def test_leaves_the_secrets_to_the_last_of_its_processes(self, run):
        first, second = leases.register_worker(run), leases.register_worker(run)
        runs.start(run, first)
        assert runs.cancel(run) == RunState.RUNNING
        for worker in (first, second):
            assert Run.objects.get().secrets is not None
            leases.let_go(worker)
            runs.finish(run)
        assert Run.objects.get().secrets is None

    def test_of_a_run_whose_processes_were_killed_elsewhere_is_ended_by_the_sweep(self, run):
        worker = leases.register_worker(run)
        Worker.objects.update(hostname="elsewhere")
        runs.start(run, worker)
        runs.cancel(run)
        cluster.sweep()
        assert Run.objects.get().secrets is not None  # it may still be sending
        Worker.objects.update(expires_at=leases.database_now() - timedelta(seconds=1))
        cluster.sweep()
        assert (Run.objects.get().secrets, Run.objects.get().state) == (None, RunState.CANCELLED)
