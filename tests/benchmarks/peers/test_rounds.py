"""Contenders in rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.peers.rounds import Failed, finished, run_rounds
from tests.benchmarks.peers.workloads import WORKLOADS
from tests.benchmarks.stacks.measuring import Report, Unavailable
from tests.support.nginx import Nginx

REPORT = Report(1, 1, 1.0, 1.0, 0, 0)


class Contenders(dict):
    """Three that note their turns and folders; ``raising`` has what one raises instead."""

    def __init__(self, **raising: Exception) -> None:
        self.turns: list[str] = []
        self.folders: list[Path] = []
        for name in ("a", "b", "c"):
            self[name] = lambda folder, name=name: self.take(name, folder, raising.get(name))

    def take(self, name: str, folder: Path, error: Exception | None) -> Report:
        self.turns.append(name)
        self.folders.append(folder)
        (folder / "left behind").touch()
        if error is not None:
            raise error
        return REPORT


def run(contenders: Contenders, scratch: Path, rounds: int = 3):
    return run_rounds("A", contenders, rounds, scratch, tell=lambda text: None)


def test_each_has_one_report_a_round(tmp_path):
    assert {name: len(found.reports) for name, found in run(Contenders(), tmp_path).items()} == {"a": 3, "b": 3, "c": 3}


def test_each_round_has_another_order(tmp_path):
    contenders = Contenders()
    run(contenders, tmp_path)

    assert "".join(contenders.turns) == "abcbcacab"


@pytest.mark.parametrize("error", [Unavailable("it is not there"), Failed("it said no")])
def test_one_that_cannot_be_measured_says_why_and_is_not_tried_again(tmp_path, error):
    contenders = Contenders(b=error)
    found = run(contenders, tmp_path)

    assert (found["b"].reports, found["b"].reason) == ([], str(error))
    assert contenders.turns.count("b") == 1


def test_one_that_cannot_be_measured_does_not_stop_the_others(tmp_path):
    found = run(Contenders(a=Failed("it said no")), tmp_path)

    assert [len(found[name].reports) for name in ("b", "c")] == [3, 3]


def test_each_turn_has_a_folder_of_its_own_which_is_removed(tmp_path):
    contenders = Contenders()
    run(contenders, tmp_path)

    assert len(set(contenders.folders)) == 9
    assert list(tmp_path.iterdir()) == []


def test_a_program_runs_without_proxies(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:1")

    assert "HTTP_PROXY" not in finished(["env"]).stdout


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_url_of_a_workload_comes_twice(name):
    nginx = Nginx(80, ("127.0.0.1", "127.0.0.2"), secure=Nginx(443, ("127.0.0.1", "127.0.0.2"), "https"))
    urls = WORKLOADS[name].urls(nginx, "transport", 0.01)

    assert len(set(urls)) == len(urls)


def test_a_scaled_workload_still_fills_what_is_in_flight():
    nginx = Nginx(80, ("127.0.0.1",))

    assert len(WORKLOADS["C"].urls(nginx, "transport", 0.01)) == 1_000
