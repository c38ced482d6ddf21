"""What is said of a run's end."""

from __future__ import annotations

import pytest

from fetcher.cli.telling import AwaitedTelling, HandedTelling, Telling
from fetcher.models import RunState
from fetcher.progress import Progress
from tests.rows import make_run

pytestmark = pytest.mark.django_db

OVER = (RunState.COMPLETED, RunState.INTERRUPTED, RunState.CANCELLED, RunState.FAILED)
KINDS = [Telling(), AwaitedTelling(), HandedTelling()]
NAMES = ["fetched", "awaited", "handed"]


@pytest.mark.parametrize("telling", KINDS, ids=NAMES)
class TestEachKind:
    def test_finds_nothing_wrong_with_a_completed_run(self, telling):
        assert telling.unfinished(Progress(run=7), RunState.COMPLETED) == ""

    def test_says_that_it_was_cancelled(self, telling):
        assert telling.unfinished(Progress(run=7), RunState.CANCELLED) == "run 7 was cancelled"

    def test_says_why_it_failed(self, telling):
        run = make_run(error="no secret", state=RunState.FAILED)
        assert telling.unfinished(Progress(run=run.pk), RunState.FAILED) == f"run {run.pk} has failed: no secret"


@pytest.mark.parametrize(
    ("telling", "end"),
    [(Telling(), "fetch_urls --resume 7"), (AwaitedTelling(), "fetch_urls --resume 7 --queue")],
    ids=NAMES[:2],
)
def test_an_interrupted_run_is_gone_on_with_where_it_was(telling, end):
    text = telling.unfinished(Progress(run=7, planned=True), RunState.INTERRUPTED)
    assert text.startswith("run 7 is interrupted, not completed. Go on with: ")
    assert text.endswith(end)


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING])
def test_a_run_that_was_handed_over_need_not_be_over(state):
    assert HandedTelling().unfinished(Progress(run=7), state) == ""


@pytest.mark.parametrize("telling", KINDS[1:], ids=NAMES[1:])
class TestAfterASignal:
    def test_says_how_to_read_on_where_the_list_was_not_read(self, telling):
        text = telling.stopped(Progress(run=7, accepted=1200))
        assert "the cluster fetches what was accepted, 1,200 targets" in text
        assert text.endswith("fetch_urls --resume 7 --queue")

    def test_says_how_to_follow_and_to_cancel_it_where_it_was(self, telling):
        text = telling.stopped(Progress(run=7, planned=True))
        assert text.startswith("detached: run 7 goes on on the cluster")
        assert "runs show 7 --watch" in text
        assert text.endswith("runs cancel 7")


def test_only_what_cannot_be_fetched_is_a_flaw_of_what_is_handed_over():
    progress = Progress(run=7)
    progress.statuses["failed"] = 1
    assert (Telling().is_flawed(progress), HandedTelling().is_flawed(progress)) == (True, False)
    progress.rejected = 1
    assert HandedTelling().is_flawed(progress)
