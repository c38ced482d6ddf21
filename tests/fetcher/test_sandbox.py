"""Evaluator processes: what they bound, what they know, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fetcher import sandbox
from fetcher.sandbox import Sandbox
from tests.support.processes import ROOT

DOUBLING = "|".join(["[@,@]"] * 26)
IN_PYTHON = "|".join(["[@[],@[]][]"] * 30)
"""Doubles a list at each step; Python is asked for each."""
DOUBLING_FOR_HOURS = "|".join(["[@,@]"] * 40)
IN_C = f"[({DOUBLING_FOR_HOURS}),({DOUBLING_FOR_HOURS})] | [0] == [1]"
"""Compares two values of 2 to the power 40 leaves, in one call of C. 2 to the power 26 take about a second."""
MEMORY = "|".join(["join('',[@,@])"] * 40)
LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")


def answers(expression: str, *bodies: bytes, seconds: float = 60.0) -> list[tuple[bytes | None, str]]:
    with Sandbox(expression, seconds) as box:
        return [(answer.json, answer.remark) for answer in box.answers(bodies)]


def run(script: str, **options: object) -> subprocess.Popen[str]:
    """Run a script in a process of its own, which may fork and be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


class TestBounds:
    def test_each_body_has_its_answer_in_order(self) -> None:
        assert answers("length(@)", b"[1]", b"{", b'"abc"', b"7") == [(b"1", ""), (None, ""), (b"3", ""), (None, "")]

    @pytest.mark.parametrize("expression", [IN_PYTHON, IN_C], ids=["in Python", "in C"])
    def test_an_endless_evaluation_is_stopped_and_the_bodies_beside_it_are_answered(self, expression: str) -> None:
        stopped = "the expression was stopped after 1 s of processor time"
        found = answers(expression, b"null", b"[1,2]", b"null", b"[3,4]")
        assert [remark for _, remark in found] == ["", stopped, "", stopped]

    @pytest.mark.skipif(sys.platform != "linux", reason="the system does not bound memory")
    def test_an_evaluation_that_takes_too_much_memory_is_stopped(self) -> None:
        sandbox._close_idle()
        found = answers(MEMORY, b'"' + b"a" * 1000 + b'"', b"1")
        assert sandbox._idle == [], "it may have kept the memory"
        assert found == [(None, "the expression was stopped: it took more than 256 MiB of memory"), (None, "")]

    def test_a_value_that_doubles_is_refused_before_it_is_written_out(self) -> None:
        assert answers(DOUBLING, b"1") == [(None, "the extracted value is not saved: it takes more than 65536 bytes")]

    def test_what_is_not_done_within_the_calls_time_is_said(self) -> None:
        found = answers(IN_PYTHON, *[b"[1,2]"] * 3, seconds=0.3)
        remark = "the expression was not applied: it took more than 0.3 s for the answers that were taken together with"
        assert {said.removesuffix(" this one") for _, said in found} == {remark}

    def test_one_that_was_killed_costs_its_body_only(self) -> None:
        with Sandbox("length(@)", 60.0) as box:
            box.answers([b"[]"])
            assert box._evaluator is not None
            os.kill(box._evaluator._process.pid, signal.SIGKILL)
            (lost,) = box.answers([b"[]"])
            (after,) = box.answers([b"[]"])
        assert lost.json is None
        assert lost.remark.startswith("the expression was ")
        assert after.json == b"0"

    def test_a_process_that_cannot_be_started_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sandbox._close_idle()
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        [(found, remark)] = answers("length(@)", b"[]")
        assert found is None
        assert remark.startswith("the expression was not applied: its process cannot be started: ")

    def test_a_large_body_has_more_time_and_memory_and_its_process_is_not_kept(self) -> None:
        sandbox._close_idle()
        assert answers("length(@)", b"[" + b"[]," * 2**20 + b"1]") == [(b"1048577", "")]
        assert sandbox._idle == []

    def test_the_process_is_used_again(self) -> None:
        answers("length(@)", b"[]")
        [kept] = sandbox._idle
        answers("keys(@)", b"{}")
        assert sandbox._idle == [kept]


class TestIsolation:
    @LINUX
    def test_it_has_no_secret_of_this_processs_environment_and_none_of_its_files(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        sandbox._close_idle()
        monkeypatch.setenv("TRAWL_TEST_SECRET", "s3cret")
        with (tmp_path / "open").open("w") as file, Sandbox("length(@)", 60.0) as box:
            os.set_inheritable(file.fileno(), True)
            box.answers([b"[]"])
            assert box._evaluator is not None
            process = Path(f"/proc/{box._evaluator._process.pid}")
            assert b"s3cret" not in (process / "environ").read_bytes()
            assert sorted(entry.name for entry in (process / "fd").iterdir()) == ["0", "1", "2"]

    def test_it_ends_with_its_parent_when_that_is_killed(self) -> None:
        script = (
            "import time; from fetcher import sandbox\n"
            "with sandbox.Sandbox('length(@)', 60) as box: box.answers([b'[]'])\n"
            "print(sandbox._idle[0]._process.pid, flush=True); time.sleep(600)"
        )
        with run(script) as parent:
            assert parent.stdout is not None
            evaluator = int(parent.stdout.readline())
            assert is_running(evaluator)
            parent.kill()
        end = time.monotonic() + 30
        while is_running(evaluator) and time.monotonic() < end:
            time.sleep(0.05)
        assert not is_running(evaluator)

    def test_it_serves_a_daemonic_process_which_may_have_no_children_of_multiprocessing(self) -> None:
        script = (
            "import multiprocessing; from fetcher.sandbox import Sandbox\n"
            "def ask():\n"
            "    with Sandbox('length(@)', 60) as box: print(box.answers([b'[1,2]'])[0].json, flush=True)\n"
            "process = multiprocessing.get_context('fork').Process(target=ask, daemon=True)\n"
            "process.start(); process.join()"
        )
        with run(script) as parent:
            assert parent.communicate()[0] == "b'2'\n"

    def test_a_forked_process_has_one_of_its_own_and_leaves_the_parents_alone(self) -> None:
        script = (
            "import os; from fetcher import sandbox\n"
            "def ask():\n"
            "    with sandbox.Sandbox('length(@)', 60) as box: found = box.answers([b'[1,2]'])[0].json\n"
            "    return found, sandbox._idle[0]._process.pid\n"
            "first = ask()\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    found, pid = ask()\n"
            "    sandbox._close_idle()\n"
            "    os._exit(0 if found == b'2' and pid != first[1] else 1)\n"
            "print(os.waitpid(child, 0)[1], ask() == first, flush=True)"
        )
        with run(script) as parent:
            assert parent.communicate()[0] == "0 True\n"
