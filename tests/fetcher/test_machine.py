"""Whether a process that is known by name still runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fetcher.machine import Process, is_gone, this_process

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], Process]]:
    """A process that runs until its standard input is closed, and what it says of itself."""
    program = "from fetcher.machine import this_process as t; p = t(); print(p.pid, p.started, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, started = process.stdout.readline().split()
        yield process, replace(this_process(), pid=int(pid), started=None if started == "None" else int(started))
        process.kill()


def test_this_one_runs() -> None:
    assert not is_gone(this_process())


def test_another_is_gone_once_it_was_killed(child: tuple[subprocess.Popen[str], Process]) -> None:
    popen, process = child
    assert not is_gone(process)
    popen.kill()
    popen.wait()
    assert is_gone(process)


@linux
def test_one_that_only_its_parent_has_not_noticed_yet_is_gone(child: tuple[subprocess.Popen[str], Process]) -> None:
    popen, process = child
    popen.kill()
    while Path(f"/proc/{popen.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    assert is_gone(process)


@linux
def test_one_whose_number_was_given_to_another_is_gone() -> None:
    assert is_gone(replace(this_process(), started=1))


def test_one_of_whose_start_nothing_is_known_is_taken_at_its_number() -> None:
    assert not is_gone(replace(this_process(), started=None))


@pytest.mark.parametrize(
    "other", [{"hostname": "elsewhere"}, {"boot": "before"}], ids=["another machine", "another boot"]
)
def test_of_other_machines_and_boots_nothing_is_known(other: dict[str, str]) -> None:
    assert not is_gone(replace(this_process(), pid=2**22 + 1, **other))
