"""One target at which a step raises, from the socket to the commit: it costs that target and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from django.db import DataError, connection

from fetcher.engine import defects
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.listener import Listener
from fetcher.models import Lane, RejectedLine, Result, Run, RunState, Shard
from fetcher.options import RunOptions
from fetcher.service import fetch_failures, fetch_list
from tests.support.commands import manage
from tests.support.faults import inject
from tests.support.stored import entries

CONFIG = FetchConfig(
    allowed_networks=(AllowedNetwork.parse("127.0.0.1/32"),), backoff_base=0.01, max_attempts=2, host_failures=0
)
OTHERS = 40

MARK = 987654321
BY_URL = f"/{MARK}"
"""In the URL of the target at which a step raises, and in that of no other."""
BY_ANSWER = f": {MARK}}}"
"""In what the server answers to it, and in nothing else that is known of the target."""

JUDGING = (
    "fetcher.engine.attempts:Attempts._advance",
    "fetcher.engine.attempts:Attempts._send",
    "fetcher.engine.attempts:Attempts._judge",
    "fetcher.engine.client:Client.first_hop",
    "fetcher.engine.client:Client.send",
    "fetcher.engine.client:Client.next_hop",
    "fetcher.engine.journey:Journey.take_up",
    "fetcher.engine.journey:Journey.begin",
    "fetcher.engine.journey:Journey.spend",
    "fetcher.engine.journey:Journey.end_attempt",
    "fetcher.engine.journey:Journey.outcome",
)
LOADING = ("fetcher.store.shards:_target",)
RECORDING = (
    "fetcher.store.bodies:prepare",
    "fetcher.store.bodies:Content.pack",
    "fetcher.store.bodies:_stored_form",
    "fetcher.store.record:encode_detail",
    "fetcher.store.record:save_bodies",
    "fetcher.store.record:has_changed",
    "fetcher.store.record:representation_of",
    "fetcher.store.record:Recorder._found",
    "fetcher.store.record:Recorder._save",
    "fetcher.store.record:Recorder._count",
    "fetcher.store.record:Recorder._insert",
    "fetcher.store.record:Recorder._row",
    "fetcher.store.record:_with_stored_body",
)
SHOWING = ("fetcher.sink:Tally.of", "fetcher.lead:Lead._saved")

ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: RuntimeError("a defect"),
    lambda: OverflowError("too large"),
    lambda: RecursionError("too deep"),
    MemoryError,
    lambda: TypeError("of another type"),
    lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    lambda: DataError("value too long"),
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def log_anew(monkeypatch):
    monkeypatch.setattr(defects, "_logged", set())


def urls(origin, behaviour: str = "ok") -> list[str]:
    """Return the targets, the one at which a step raises in the middle."""
    found = [origin.url(f"/ok/{number}", number % 3) for number in range(OTHERS)]
    found.insert(OTHERS // 2, origin.url(f"/{behaviour}/{MARK}"))
    return found


def fetch(given: list[str], options: RunOptions | None = None, listener: Listener | None = None) -> RunState:
    async def main() -> RunState:
        async with asyncio.timeout(60):
            return await fetch_list(entries(*given), CONFIG, options or RunOptions(), listener=listener)

    return asyncio.run(main())


def assert_only_the_marked_one_failed() -> Result:
    """Check all that must be so whatever step raised; returns the result of the target at which it did."""
    marked = Result.objects.get(target__url__endswith=BY_URL)
    assert (marked.status, marked.error_kind) == ("failed", "internal")
    assert Result.objects.filter(status="succeeded").exclude(pk=marked.pk).count() == OTHERS
    assert_complete()
    return marked


def assert_complete() -> None:
    """Check that nothing is left for whoever resumes."""
    assert not Lane.objects.still_open().exists()
    assert not Shard.objects.filter(done_at=None).exists()
    assert Run.objects.get().state == RunState.COMPLETED


@pytest.mark.parametrize("step", JUDGING)
def test_a_step_of_judging_that_raises_costs_its_target_only(monkeypatch, threaded_origin, step):
    count = inject(monkeypatch, step, BY_URL, ERRORS[0])
    assert fetch(urls(threaded_origin)) == RunState.COMPLETED
    assert count()
    assert_only_the_marked_one_failed()


@pytest.mark.parametrize(
    "step", ["fetcher.engine.attempts:Attempts._failed", "fetcher.engine.attempts:Attempts._retry_after"]
)
def test_a_step_of_judging_a_failure_that_raises_costs_its_target_only(monkeypatch, threaded_origin, step):
    given = [url.replace(BY_URL, f"{BY_URL}?status=500") for url in urls(threaded_origin, "flaky")]
    count = inject(monkeypatch, step, BY_URL, ERRORS[0])
    assert fetch(given) == RunState.COMPLETED
    assert count()
    assert Result.objects.get(target__url__contains=BY_URL).error_kind == "internal"
    assert Result.objects.filter(status="succeeded").count() == OTHERS


@pytest.mark.parametrize("step", LOADING)
def test_a_target_that_cannot_be_loaded_costs_itself_only(monkeypatch, threaded_origin, step):
    assert inject(monkeypatch, step, BY_URL, ERRORS[0])
    assert fetch(urls(threaded_origin)) == RunState.COMPLETED
    assert "while loading the target" in assert_only_the_marked_one_failed().error_detail


@pytest.mark.parametrize("step", RECORDING)
def test_a_step_of_recording_that_raises_costs_its_target_only(monkeypatch, threaded_origin, step):
    count = inject(monkeypatch, step, BY_ANSWER, ERRORS[0])
    assert fetch(urls(threaded_origin), RunOptions(extract="ok")) == RunState.COMPLETED
    assert count()
    assert_only_the_marked_one_failed()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error()).__name__)
@pytest.mark.parametrize("step", ["fetcher.store.record:encode_detail", "fetcher.store.record:Recorder._insert"])
def test_whatever_a_step_of_recording_raises_costs_its_target_only(monkeypatch, threaded_origin, step, error):
    inject(monkeypatch, step, BY_ANSWER, error)
    assert fetch(urls(threaded_origin)) == RunState.COMPLETED
    assert assert_only_the_marked_one_failed().error_detail.startswith(f"{type(error()).__name__} while ")


@pytest.mark.parametrize("step", SHOWING)
def test_a_step_of_showing_that_raises_costs_no_result(monkeypatch, threaded_origin, step):
    inject(monkeypatch, step, "", ERRORS[0])
    assert fetch(urls(threaded_origin)) == RunState.COMPLETED
    assert Result.objects.filter(status="succeeded").count() == OTHERS + 1
    assert_complete()


def test_a_listener_that_raises_costs_no_result_and_no_count(threaded_origin):
    def recorded(ids: list[int]) -> None:
        raise OSError(28, "No space left on device")

    listener = Listener(recorded=recorded, rejected=lambda entry: recorded([]))
    assert fetch([*urls(threaded_origin), "no url"], listener=listener) == RunState.COMPLETED
    assert (listener.progress.done, listener.progress.rejected) == (OTHERS + 1, 1)
    assert_complete()


def test_a_defect_is_named_without_the_servers_data_and_logged_once(monkeypatch, threaded_origin, caplog):
    inject(monkeypatch, "fetcher.store.record:encode_detail", '"ok"', lambda: ValueError("secret from the server"))
    fetch(urls(threaded_origin))
    details = set(Result.objects.values_list("error_detail", flat=True))
    assert len(details) == 1
    assert details.pop().startswith("ValueError while preparing the result (fetcher/store/record.py:")
    [record] = [one for one in caplog.records if one.name == "fetcher.engine.defects"]
    assert "_prepare" in record.getMessage()
    assert "secret" not in record.getMessage()


# What the database itself refuses, in real processes.

REFUSE_STATUS = {
    "sqlite": "CREATE TRIGGER poison BEFORE INSERT ON fetcher_result WHEN NEW.http_status = 404 "
    "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    "postgresql": "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN IF NEW.http_status = 404 THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$; "
    "CREATE TRIGGER poison BEFORE INSERT ON fetcher_result FOR EACH ROW EXECUTE FUNCTION refuse()",
}
REFUSE_TARGET = {
    "sqlite": "CREATE TRIGGER poison BEFORE INSERT ON fetcher_target WHEN NEW.url LIKE '%/987654321' "
    "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    "postgresql": "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN IF NEW.url LIKE '%/987654321' THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$; "
    "CREATE TRIGGER poison BEFORE INSERT ON fetcher_target FOR EACH ROW EXECUTE FUNCTION refuse()",
}


@pytest.fixture
def refusing() -> Iterator[Callable[[dict[str, str]], None]]:
    """A function that has the database refuse a row."""
    tables = []

    def refuse(sql: dict[str, str]) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql[connection.vendor].replace("%", "%%"), [])
        tables.append("fetcher_result" if sql is REFUSE_STATUS else "fetcher_target")

    yield refuse
    with connection.cursor() as cursor:
        for table in tables:
            on = f" ON {table}; DROP FUNCTION refuse" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER poison{on}")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_that_the_database_refuses_costs_its_target_only(tmp_path, threaded_origin, refusing, workers):
    refusing(REFUSE_STATUS)
    (tmp_path / "urls.txt").write_text("\n".join(urls(threaded_origin, "missing")))
    options = ("--allow-network", "127.0.0.1/32", "--progress", "none", "--workers", str(workers))
    done = manage("fetch_urls", "--file", str(tmp_path / "urls.txt"), *options)
    assert done.returncode == 3, done.stderr
    assert "while saving the result" in assert_only_the_marked_one_failed().error_detail
    resumed = manage("fetch_urls", "--resume", str(Run.objects.get().pk))
    assert "there is nothing to resume" in resumed.stderr


def test_several_rows_that_the_database_refuses_cost_their_targets_only(threaded_origin, refusing):
    refusing(REFUSE_STATUS)
    given = [threaded_origin.url(f"/{'ok' if number % 3 else 'missing'}/{number}") for number in range(30)]
    assert fetch(given) == RunState.COMPLETED
    assert Result.objects.filter(error_kind="internal", http_status=None).count() == 10
    assert Result.objects.filter(status="succeeded").count() == 20
    assert_complete()


def test_a_line_that_the_database_refuses_is_rejected_and_the_others_are_fetched(threaded_origin, refusing):
    refusing(REFUSE_TARGET)
    rejected = []
    assert fetch(urls(threaded_origin), listener=Listener(rejected=rejected.append)) == RunState.COMPLETED
    line = RejectedLine.objects.get()
    assert (line.line, line.value) == (OTHERS // 2 + 1, threaded_origin.url(f"/ok{BY_URL}"))
    assert "it cannot be stored" in line.reason
    assert [entry.line for entry in rejected] == [line.line]
    assert Result.objects.filter(status="succeeded").count() == OTHERS
    assert_complete()


def test_a_failure_that_cannot_be_planned_again_is_rejected_and_the_others_are(monkeypatch, threaded_origin):
    given = [threaded_origin.url(f"/missing/{number}") for number in range(10)]
    fetch(given)
    parent = Run.objects.get().pk
    marked = Result.objects.get(target__url__endswith="/7").target_id
    inject(monkeypatch, "fetcher.store.lanes:payload_of", f"target={marked},", ERRORS[0])
    state = asyncio.run(fetch_failures(parent, [], CONFIG, RunOptions()))
    assert state == RunState.COMPLETED
    line = RejectedLine.objects.get()
    assert (line.source, line.line, line.value) == (f"run {parent}", 8, threaded_origin.url("/missing/7"))
    assert Result.objects.exclude(run=parent).count() == 9
