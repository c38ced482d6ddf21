"""The summary of a finished run."""

from __future__ import annotations

import io
import re

import pytest

from fetcher.cli.summary import figures, print_summary
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Status
from fetcher.progress import Progress, Tally
from fetcher.store import runs
from tests.support.stored import open_targets, outcome, plan, record


def failed(kind: ErrorKind, code: int | None = None, detail: str = "why", status: Status = Status.FAILED) -> dict:
    return {"status": status, "error_kind": kind, "http_status": code, "error_detail": detail, "body": None}


def summary(
    *endings: dict, stream: io.StringIO | None = None, host: str = "http://h{}.example/", over: bool = True, **values
) -> str:
    run = plan(*(host.format(number) for number in range(len(endings) + (not over))))
    attempts = (Attempt(1, 0.0, 0.1), Attempt(2, 0.0, 0.1))
    outcomes = [
        outcome(target, **{"attempts": attempts, **ending})
        for target, ending in zip(open_targets(run), endings, strict=over)
    ]
    record(run, outcomes)
    runs.finish(run)
    progress = Progress(run=run, accepted=values.pop("accepted", len(endings)), planned=True, **values)
    progress.saved(Tally.of(outcomes))
    stream = stream or io.StringIO()
    print_summary(stream, progress)
    return stream.getvalue()


@pytest.mark.django_db
class TestSummary:
    def test_begins_with_what_was_done(self):
        text = summary({}, {}, {"body": b"x" * 2048})
        assert re.match(r"Run \d+ completed in \S+ \w+: 3 targets, [\d,.]+/s, 2\.0 KiB received\n", text)

    def test_of_nothing_tells_no_rate(self):
        assert summary().splitlines()[0].endswith(": 0 targets")

    def test_names_each_reason_once_and_splits_only_http_status(self):
        http, protocol, timeout = ErrorKind.HTTP_STATUS, ErrorKind.PROTOCOL, ErrorKind.TIMEOUT
        text = summary(
            {},
            *[failed(http, 404)] * 3,
            failed(http, 503),
            *[failed(protocol, 200), failed(protocol), failed(protocol)],
            failed(timeout, 200),
            failed(timeout),
            *[failed(ErrorKind.CONNECT, status=Status.SKIPPED)] * 2,
        )
        lines = [line.split(maxsplit=2) for line in text.splitlines()[2:5]]
        assert lines == [
            ["succeeded", "1"],
            ["failed", "9", "3 http_status 404, 3 protocol, 2 timeout, 1 http_status 503"],
            ["skipped", "2", "2 connect"],
        ]

    def test_gives_an_example_of_each_reason(self):
        text = summary({}, failed(ErrorKind.TIMEOUT, detail="no bytes"), *[failed(ErrorKind.HTTP_STATUS, 404)] * 2)
        assert "  timeout          http://h1.example/\n                   no bytes (after 2 attempts)\n" in text
        assert text.count("http_status 404  http://h2.example/") == 1
        assert "h3.example" not in text.partition("Slowest")[0]

    def test_tells_what_else_the_list_held(self):
        text = summary({}, accepted=4, duplicates=1200, rejected=2)
        for part in ("pending", "not fetched yet", "1,200  listed more than once", "2  lines that are no URLs"):
            assert part in text

    def test_says_how_to_read_the_results(self):
        text = summary({}, failed(ErrorKind.DNS))
        assert re.search(r"Read as JSON  .*manage.py serve, then http://127.0.0.1:8000/api/v1/runs/\d+/results/", text)
        assert "?status=failed" in text
        assert "?status=failed" not in summary({})

    def test_says_how_to_fetch_again_what_failed(self):
        text = summary({}, failed(ErrorKind.DNS))
        assert re.search(r"Try again +.*manage.py fetch_urls --retry-failed (\d+)\n", text)
        assert "Try again" not in summary({})

    def test_does_not_say_so_of_a_run_that_is_not_over(self):
        assert "Try again" not in summary(failed(ErrorKind.DNS), over=False)

    def test_says_how_to_go_on_with_a_run_that_was_left(self):
        assert re.search(r"Go on +.*manage.py fetch_urls --resume (\d+)\n", summary({}, over=False))
        assert "Go on" not in summary({})

    def test_compares_hosts_only_where_there_are_several(self):
        assert "Slowest hosts" in summary({}, {})
        assert "Slowest hosts" not in summary({}, {}, host="http://h.example/{}")

    def test_is_neither_padded_nor_wrapped_nor_coloured_where_there_is_no_terminal(self):
        text = summary(*[failed(kind, detail="x" * 300) for kind in ErrorKind])
        assert max(map(len, text.splitlines())) > 300
        assert "\x1b" not in text
        assert [line for line in text.splitlines() if line != line.rstrip()] == []

    def test_fits_a_terminal(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("TERM", "xterm")
        text = summary(*[failed(kind, detail="x" * 300) for kind in ErrorKind], stream=Terminal())
        assert "\x1b[" in text
        assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in text.splitlines()) <= 80

    def test_shows_nothing_that_could_command_a_terminal(self):
        assert "\x1b" not in summary(failed(ErrorKind.PROTOCOL, detail="\x1b[2J\x1b]0;gone\x07"))


def test_figures_are_null_where_they_are_not_known():
    found = figures(Progress(known=False))
    assert (found["retries"], found["unchanged_bytes"], found["rejected"]) == (None, None, 0)
