"""The demo's script: what it covers, that it fits the options, and that a deviation is found."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest

from fetcher.demo.behaviours import BEHAVIOURS
from fetcher.demo.faults import FAULTS
from fetcher.demo.origin import Origin
from fetcher.demo.scenarios import AGAIN, DEMO_OPTIONS, FIRST, LISTENERS, PAUSING, Scenario, check, urls
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status

SCRIPT = (
    Scenario("/ok/1", "fine"),
    Scenario("/missing/1?a=b", "404", status="failed", error_kind="http_status", http_status=404),
)


def as_scripted(scenario: Scenario) -> dict[str, Any]:
    row = dataclasses.asdict(scenario)
    return {**row, "url": f"http://127.0.0.1:8000{scenario.path}"}


def first(prefix: str) -> Scenario:
    return next(scenario for scenario in FIRST if scenario.path.startswith(prefix))


class TestScript:
    def test_there_are_about_two_hundred_targets(self) -> None:
        assert 180 <= len(FIRST) <= 220

    @pytest.mark.parametrize("script", [FIRST, AGAIN])
    def test_no_path_comes_twice(self, script: tuple[Scenario, ...]) -> None:
        assert len({scenario.path for scenario in script}) == len(script)

    def test_the_words_are_the_engine_s(self) -> None:
        assert {scenario.status for scenario in FIRST + AGAIN} <= set(Status)
        assert {scenario.error_kind for scenario in FIRST} - {None} <= set(ErrorKind)

    def test_every_path_is_one_of_the_origin_s(self) -> None:
        prefixes = {scenario.path.split("?")[0].split("/")[1] for scenario in FIRST}

        assert prefixes <= BEHAVIOURS.keys() | FAULTS.keys()

    def test_the_options_are_a_fetch_config(self) -> None:
        assert FetchConfig(**DEMO_OPTIONS).max_body == 65_536

    def test_no_host_is_given_up_for_silence(self) -> None:
        kinds = {"dns", "connect", "timeout"}
        silent = [s.attempts for s in FIRST if s.error_kind in kinds and s.http_status is None]

        assert sum(silent) < FetchConfig(**DEMO_OPTIONS).host_failures

    def test_only_what_asks_for_a_pause_is_on_the_pausing_listener(self) -> None:
        pausing = {scenario.path.split("/")[1] for scenario in FIRST if scenario.listener == PAUSING}

        assert (pausing, PAUSING < LISTENERS) == ({"retry-after"}, True)

    @pytest.mark.parametrize(
        ("prefix", "status", "kind", "http_status", "attempts"),
        [
            ("/ok/", "succeeded", None, 200, 1),
            ("/slow/", "succeeded", None, 200, 1),
            ("/etag/", "succeeded", None, 200, 1),
            ("/redirect/", "succeeded", None, 200, 1),
            ("/gzip/", "succeeded", None, 200, 1),
            ("/retry-after/", "succeeded", None, 200, 2),
            ("/flaky/", "succeeded", None, 200, 2),
            ("/missing/", "failed", "http_status", 404, 1),
            ("/hang/", "failed", "timeout", None, 3),
            ("/reset/", "failed", "protocol", None, 3),
            ("/big/", "failed", "too_large", 200, 1),
        ],
    )
    def test_what_becomes_of_each_kind(
        self, prefix: str, status: str, kind: str | None, http_status: int | None, attempts: int
    ) -> None:
        found = first(prefix)

        assert (found.status, found.error_kind, found.http_status, found.attempts) == (
            status, kind, http_status, attempts,
        )  # fmt: skip

    def test_the_second_pass_finds_nothing_modified(self) -> None:
        assert {(scenario.status, scenario.http_status) for scenario in AGAIN} == {("not_modified", 304)}

    @pytest.mark.parametrize("prefix", ["/ok/", "/slow/", "/etag/", "/redirect/", "/gzip/", "/missing/"])
    async def test_the_origin_answers_as_scripted(self, prefix: str) -> None:
        scenario = first(prefix)

        async with Origin(listeners=LISTENERS) as origin, httpx.AsyncClient(trust_env=False) as client:
            (url,) = urls([scenario], origin.url)
            answer = await client.get(url, follow_redirects=True)

        assert answer.status_code == scenario.http_status


class TestCheck:
    def test_results_as_scripted_have_no_mismatch(self) -> None:
        for script in (SCRIPT, FIRST, AGAIN):
            assert check(script, map(as_scripted, script)) == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [("status", "skipped"), ("error_kind", "internal"), ("http_status", 500), ("attempts", 4)],
    )
    def test_a_field_that_differs_is_named(self, field: str, value: object) -> None:
        wrong = {**as_scripted(SCRIPT[0]), field: value}

        (mismatch,) = check(SCRIPT, [wrong, as_scripted(SCRIPT[1])])

        assert str(mismatch) == f"/ok/1: {field} should be {getattr(SCRIPT[0], field)!r}, is {value!r}"

    def test_a_missing_result_is_found(self) -> None:
        (mismatch,) = check(SCRIPT, [as_scripted(SCRIPT[0])])

        assert str(mismatch) == "/missing/1?a=b: result should be 'one', is 'none'"

    def test_a_result_too_many_is_found(self) -> None:
        (mismatch,) = check(SCRIPT, map(as_scripted, (*SCRIPT, SCRIPT[0])))

        assert (mismatch.path, mismatch.found) == ("/ok/1", "one too many")

    def test_an_unknown_result_is_found(self) -> None:
        (mismatch,) = check(SCRIPT, map(as_scripted, (*SCRIPT, Scenario("/else", ""))))

        assert (mismatch.path, mismatch.found) == ("/else", "one too many")
