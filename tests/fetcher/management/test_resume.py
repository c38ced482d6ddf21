"""``fetch_urls --resume``: runs are finished that were interrupted, at whatever point."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import pytest

from fetcher.demo.exchange import Exchange
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.models import Lane, RejectedLine, Result, Run, RunState, Worker
from fetcher.options import RunOptions
from fetcher.sources import Input, Inputs, with_defaults
from fetcher.store import leases, runs
from fetcher.store.plan import Planner
from tests.support.commands import Called, start

ALLOW = ("--allow-network", "127.0.0.1/32")
CONFIG = FetchConfig(allowed_networks=(AllowedNetwork.parse("127.0.0.1/32"),))

COUNT = 210
"""URLs of three hosts; one after the other they take seven seconds."""

pytestmark = pytest.mark.django_db(transaction=True)


def interrupted(inputs: Sequence[Input], read: int, *, config: FetchConfig = CONFIG, **options) -> int:
    """Return a run of which so many entries are planned, and whose process has then ended."""
    reading = Inputs(inputs)
    run_options = RunOptions(**options)
    run = runs.create_run(config, run_options, source=reading.description, inputs=reading.dump())
    worker = leases.register_worker(run)
    runs.start(run, worker)
    entries = with_defaults(iter(reading), method=run_options.method, data=run_options.data)
    Planner(run, worker, config=config, offset=reading.offset).add(list(islice(entries, read)))
    Worker.objects.filter(pk=worker).update(pid=2**22 + 1)  # more than there can be
    return run


def fetched() -> list[str]:
    return list(Result.objects.order_by("position").values_list("target__url", flat=True))


@pytest.fixture
def urls(threaded_origin) -> list[str]:
    return [threaded_origin.url(f"/ok/{number}") for number in range(20)]


class TestReadingOn:
    def lines(self, path: Path, urls: list[str]) -> None:
        path.write_text("# a comment\n" + "".join(f"{url}\n\n" for url in urls))

    def packed(self, path: Path, urls: list[str]) -> None:
        path.write_bytes(gzip.compress("".join(f"{url}\n" for url in urls).encode()))

    def csv(self, path: Path, urls: list[str]) -> None:
        path.write_text("label,url\n" + "".join(f"l,{url}\n" for url in urls))

    def sitemap(self, path: Path, urls: list[str]) -> None:
        items = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
        path.write_text(f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{items}</urlset>')

    @pytest.mark.parametrize("write", ["lines", "packed", "csv", "sitemap"])
    @pytest.mark.parametrize("read", [0, 1, 19, 20])
    def test_of_a_file_begins_behind_what_was_accepted(self, tmp_path, urls, write, read):
        getattr(self, write)(tmp_path / "list", urls)
        run = interrupted([Input.file(str(tmp_path / "list"))], read)
        called = Called("--resume", str(run))
        assert (called.code, fetched()) == (0, urls)
        assert f"resuming run {run}: 0 of {read} target" in called.err
        assert Run.objects.get().state == RunState.COMPLETED

    def test_knows_duplicates_and_rejected_lines_from_before(self, tmp_path, urls):
        path = tmp_path / "list"
        path.write_text("\n".join([*urls[:3], "no url", urls[0], urls[1], "no url either", urls[3]]))
        run = interrupted([Input.file(str(path))], 5)
        assert Called("--resume", str(run)).code == 3
        assert fetched() == urls[:4]
        assert Run.objects.values_list("duplicates", "rejected", "read").get() == (2, 2, 8)
        assert list(RejectedLine.objects.order_by("id").values_list("line", flat=True)) == [4, 7]

    @pytest.mark.parametrize("read", [3, 5, 6, 12, 19])
    def test_of_several_inputs_begins_in_the_right_one(self, tmp_path, urls, read):
        (tmp_path / "a").write_text("\n".join(urls[5:12]))
        (tmp_path / "b").write_text("\n".join(urls[12:]))
        inputs = [Input.arguments(urls[:5]), *(Input.file(str(tmp_path / name)) for name in "ab")]
        assert Called("--resume", str(interrupted(inputs, read))).code == 0
        assert fetched() == urls

    def test_twice_interrupted_goes_on_as_well(self, tmp_path, urls):
        (tmp_path / "list").write_text("\n".join(urls))
        run = interrupted([Input.file(str(tmp_path / "list"))], 4)
        again = leases.register_worker(run)
        runs.resume(run, again)
        row = Run.objects.get()
        inputs = Inputs.again(row.inputs, row.source_offset, row.read)
        planner = Planner(run, again, config=CONFIG, offset=inputs.offset)
        planner.load()
        planner.add(list(islice(inputs, 7)))
        Worker.objects.filter(pk=again).update(pid=2**22 + 1)
        assert Run.objects.get().source_offset["entries"] == 11
        assert Called("--resume", str(run)).code == 0
        assert fetched() == urls

    def test_uses_the_options_that_the_run_was_begun_with(self, threaded_origin):
        url = threaded_origin.url("/echo/1")
        config = FetchConfig(allowed_networks=CONFIG.allowed_networks, headers=(("X-Api-Key", "s3cret"),))
        run = interrupted([Input.arguments([url])], 0, config=config, method="PUT", data=b"content")
        assert Called("--resume", str(run)).code == 0
        [request] = threaded_origin.log
        assert (request.method, request.header("X-Api-Key"), request.header("Content-Length")) == ("PUT", "s3cret", "7")
        assert Run.objects.get().secrets is None

    def test_works_in_another_folder(self, tmp_path, urls, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("list").write_text("\n".join([*urls, "no url"]))
        run = interrupted([Input.file("list")], 3)
        monkeypatch.chdir("/")
        called = Called("--resume", str(run))
        assert fetched() == urls
        assert "list:21: rejected: 'no url'" in called.err


class TestInputThatCannotBeReadAgain:
    def changed(self, path: Path) -> None:
        with path.open("a") as file:
            file.write("\nhttp://another.example/")

    def touched(self, path: Path) -> None:
        os.utime(path, ns=(1, 1))

    def removed(self, path: Path) -> None:
        path.unlink()

    def replaced(self, path: Path) -> None:
        path.unlink()
        path.mkdir()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ("changed", "has been changed since"),
            ("touched", "has been changed since"),
            ("removed", "is not there any more"),
            ("replaced", "is not there any more"),
        ],
    )
    def test_what_was_accepted_is_fetched_and_the_line_is_told(self, tmp_path, urls, change, reason):
        path = tmp_path / "urls.txt"
        path.write_text("\n".join(urls))
        run = interrupted([Input.file(str(path))], 7)
        getattr(self, change)(path)
        called = Called("--resume", str(run))
        assert (called.code, fetched()) == (1, urls[:7])
        assert f"its input ended at {path}, line 7: {path} {reason}" in called.err
        assert "Fetch the rest of it as a new run" in called.err.splitlines()[-1]
        assert Run.objects.get().state == RunState.INTERRUPTED

    def test_a_file_that_was_read_to_its_end_is_not_missed(self, tmp_path, urls):
        path = tmp_path / "urls.txt"
        path.write_text("\n".join(urls))
        run = interrupted([Input.file(str(path))], 20)
        runs.planned(run)
        path.unlink()
        assert Called("--resume", str(run)).code == 0
        assert fetched() == urls

    def test_nor_is_one_that_comes_before_the_one_that_is_read(self, tmp_path, urls):
        (tmp_path / "a").write_text("\n".join(urls[:5]))
        (tmp_path / "b").write_text("\n".join(urls[5:]))
        run = interrupted([Input.file(str(tmp_path / name)) for name in "ab"], 6)
        (tmp_path / "a").unlink()
        assert Called("--resume", str(run)).code == 0
        assert fetched() == urls

    def test_standard_input_is_gone(self, urls):
        with start("fetch_urls", "-", *ALLOW, "--progress", "none") as process:
            process.stdin.write("\n".join(urls[:3]) + "\n")
            process.stdin.flush()
            wait_for(lambda: Result.objects.count() == 3)
            process.kill()
        run = Run.objects.get().pk
        called = Called("--resume", str(run))
        assert called.code == 1
        assert "its input ended at stdin, line 3: stdin cannot be read a second time" in called.err
        assert Run.objects.get().state == RunState.INTERRUPTED


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("http://a/", "--resume"), "'http://a/' is no run's number"),
            (("--resume", "1", "--file", "urls.txt"), "argument --file: not allowed with --resume"),
            (("--resume", "1", "--concurrency", "5"), "argument --concurrency: not allowed with --resume"),
            (("--resume", "1", "--no-body"), "argument --body: not allowed with --resume"),
            (("--resume", "1", "--plan"), "argument --plan: not allowed with --resume"),
            (("--resume", "1", "--retry-failed", "1"), "argument --retry-failed: not allowed with --resume"),
        ],
    )
    def test_as_wrong_usage(self, arguments, text):
        called = Called(*arguments)
        assert (called.code, text in called.err) == (2, True), called.err

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--resume", "x"), "argument --resume: must be a run's number or latest, not 'x'"),
            (("--resume", "0"), "argument --resume: must be a run's number or latest, not '0'"),
            (("--resume", "1", "--workers", "0"), "argument --workers: must be a whole number from 1 to 64, not '0'"),
            (("--split-hosts", "x", "http://a/"), "argument --split-hosts: must be a whole number from 1 to 64"),
        ],
    )
    def test_a_value_that_cannot_be_read(self, arguments, text):
        assert text in Called(*arguments).err

    def test_a_run_that_does_not_exist(self):
        assert "there is no run 7; manage.py runs list" in Called("--resume", "7").err

    def test_where_none_is_interrupted(self, urls):
        Called(urls[0], *ALLOW)
        called = Called("--resume")
        assert (called.code, called.err) == (
            1, "CommandError: there is no interrupted run to resume; manage.py runs list shows which runs there are\n"
        )  # fmt: skip

    def test_a_run_that_is_over(self, urls):
        Called(urls[0], *ALLOW)
        run = Run.objects.get().pk
        called = Called("--resume", str(run))
        assert (called.code, called.err) == (1, f"CommandError: run {run} is completed: there is nothing to resume\n")

    def test_a_run_that_is_worked_on(self, threaded_origin, monkeypatch):
        monkeypatch.setattr("fetcher.lead.PATIENCE", 0.1)
        run = interrupted([Input.arguments([threaded_origin.url("/ok/1")])], 0)
        leases.register_worker(run)
        called = Called("--resume", str(run))
        assert called.code == 1
        assert f"run {run} is in progress: process {os.getpid()} on" in called.err
        assert not threaded_origin.log


class TestLatest:
    def test_is_the_newest_that_is_interrupted(self, urls):
        runs_ = [interrupted([Input.arguments([url])], 0) for url in urls[:3]]
        Run.objects.filter(pk=runs_[2]).update(state=RunState.CANCELLED)
        assert Called("--resume").code == 0
        assert Result.objects.get().run_id == runs_[1]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class TestKilled:
    def test_a_command_is_shown_as_interrupted_at_once_and_resumed(self, threaded_origin, urls):
        with start("fetch_urls", *urls[:3], threaded_origin.url("/hang/1"), *ALLOW, "--max-attempts", "1",
                   "--read-timeout", "1", stdin=subprocess.DEVNULL) as process:  # fmt: skip
            wait_for(lambda: Result.objects.count() == 3)
            process.kill()
        run = Run.objects.get()
        assert run.state == RunState.RUNNING
        assert Run.objects.in_state(RunState.INTERRUPTED).get() == run
        requests = len(threaded_origin.log)
        assert Called("--resume", str(run.pk)).code == 3
        assert Result.objects.count() == 4
        assert len(threaded_origin.log) == requests + 1


class TestWorkers:
    """Several processes of one command."""

    @pytest.fixture
    def listed(self, tmp_path, threaded_origin) -> str:
        urls = [threaded_origin.url(f"/slow/{number}?ms=100", number % 3) for number in range(COUNT)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        return str(tmp_path / "urls.txt")

    @pytest.fixture
    def answering(self, monkeypatch) -> threading.Event:
        """Until it is set, the origin answers nothing: on a busy machine one worker could end before another begins."""
        answering, wait = threading.Event(), Exchange.wait

        async def hold(exchange: Exchange, seconds: float | None) -> None:
            while not answering.is_set():
                await wait(exchange, 0.05)
            await wait(exchange, seconds)

        monkeypatch.setattr(Exchange, "wait", hold)
        return answering

    def test_share_a_run_and_tell_of_each_result_once(self, listed, answering):
        with start("fetch_urls", "--file", listed, *ALLOW, "--workers", "3", "--output", "ndjson", "--per-host", "1",
                   "--progress", "none", stdin=subprocess.DEVNULL) as process:  # fmt: skip
            wait_for(lambda: Worker.objects.count() == 3)
            answering.set()
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        printed = [json.loads(line)["id"] for line in out.splitlines()]
        assert sorted(printed) == sorted(Result.objects.values_list("id", flat=True))
        assert len(printed) == len(set(printed)) == COUNT
        assert not Worker.objects.exists()
        assert not Lane.objects.exclude(worker=None).exists()
        assert Run.objects.get().state == RunState.COMPLETED

    def test_one_that_dies_is_replaced_and_nothing_is_lost(self, listed):
        with start("fetch_urls", "--file", listed, *ALLOW, "--workers", "2", "--per-host", "1", "--progress", "none",
                   stdin=subprocess.DEVNULL) as process:  # fmt: skip
            wait_for(lambda: Lane.objects.exclude(worker=None).exclude(worker__pid=process.pid).exists())
            [helper] = Worker.objects.exclude(pid=process.pid)
            os.kill(helper.pid, signal.SIGKILL)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"worker 2 (process {helper.pid}) was ended by SIGKILL; another takes its place" in err
        assert f"succeeded  {COUNT}" in out
        assert Result.objects.count() == COUNT

    def test_end_with_the_command(self, listed, answering):
        with start("fetch_urls", "--file", listed, *ALLOW, "--workers", "2", "--per-host", "1", "--progress", "none",
                   stdin=subprocess.DEVNULL) as process:  # fmt: skip
            wait_for(lambda: Worker.objects.count() == 2)
            process.kill()
        answering.set()
        wait_for(lambda: len(Worker.objects.ended()) == 2, 5)
        run = Run.objects.get().pk
        assert Called("--resume", str(run)).code == 0
        assert Result.objects.count() == COUNT

    def test_stop_with_the_command_and_save_what_is_in_flight(self, listed, answering):
        with start("fetch_urls", "--file", listed, *ALLOW, "--workers", "2", "--per-host", "1", "--progress", "none",
                   stdin=subprocess.DEVNULL) as process:  # fmt: skip
            wait_for(lambda: Worker.objects.count() == 2)
            answering.set()
            wait_for(Result.objects.exists)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert f"interrupted: {Result.objects.count()} of {COUNT} targets are saved" in err
        assert not Worker.objects.exists()
        assert not Lane.objects.exclude(worker=None).exists()

    @pytest.mark.parametrize(("split", "holders"), [("1", 1), ("2", 2)])
    def test_ask_one_host_at_once_only_where_it_is_split(self, tmp_path, threaded_origin, answering, split, holders):
        urls = [threaded_origin.url(f"/slow/{number}?ms=50") for number in range(200)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        with start("fetch_urls", "--file", str(tmp_path / "urls.txt"), *ALLOW, "--workers", "2", "--per-host", "2",
                   "--split-hosts", split, stdin=subprocess.DEVNULL) as process:  # fmt: skip
            wait_for(lambda: Worker.objects.count() == 2)
            answering.set()
            seen = 0
            while process.poll() is None:
                seen = max(seen, Lane.objects.exclude(worker=None).values("worker").distinct().count())
                time.sleep(0.05)
            process.communicate(timeout=20)
        assert (process.returncode, seen) == (0, holders)
        assert Result.objects.count() == len(urls)
