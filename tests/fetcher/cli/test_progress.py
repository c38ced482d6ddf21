"""Progress on standard error."""

from __future__ import annotations

import io

import pytest

from fetcher.cli.progress import Reporter, line
from fetcher.engine.types import Target
from fetcher.progress import Progress, Tally
from tests.support.stored import outcome

TARGET = Target("http://a.example/", "a.example:80")


def progress(done: int = 0, **values) -> Progress:
    found = Progress(run=7, **values)
    found.saved(Tally.of(outcome(TARGET) for _ in range(done)))
    return found


class TestLine:
    def test_has_a_plus_while_the_list_is_still_read(self):
        assert line(progress(accepted=5)).startswith("run 7: 0/5+, ")
        assert line(progress(accepted=5, planned=True)).startswith("run 7: 0/5, ")

    def test_tells_failed_and_rejected_only_where_there_are_any(self):
        assert "failed" not in line(progress(1, accepted=1))
        found = progress(1, accepted=1, rejected=2)
        found.statuses["skipped"] += 3
        assert "3 failed, 2 rejected" in line(found)

    def test_tells_workers_instead_of_requests_where_the_cluster_fetches(self):
        found = progress(1, accepted=1)
        found.workers = 2
        assert ", 2 workers" in line(found)
        assert "in flight" not in line(found)

    def test_says_when_it_is_nearly_done(self):
        assert line(progress(10, accepted=10, planned=True)).endswith("nearly done")


class TestReporter:
    def test_prints_messages_as_they_are_where_there_is_no_terminal(self):
        stream = io.StringIO()
        Reporter("auto", stream).message(f"[bold]{'x' * 200}\x1b[31m [/nothing]")
        assert stream.getvalue() == f"[bold]{'x' * 200} [31m [/nothing]\n"

    @pytest.mark.parametrize("style", ["auto", "plain", "none"])
    async def test_of_a_short_run_says_nothing_without_a_terminal(self, style):
        stream = io.StringIO()
        async with Reporter(style, stream).showing(progress()):
            pass
        assert stream.getvalue() == ""
