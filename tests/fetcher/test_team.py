"""Worker processes of one command; what they fetch is tested with the command."""

from __future__ import annotations

import asyncio
import sys

import pytest

from fetcher import team as module
from fetcher.engine.control import Control
from fetcher.progress import Progress
from fetcher.team import Team
from fetcher.writer import Writer


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that puts a shell script in the place of the worker's interpreter."""

    def put(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return put


def run_team(size: int = 1, grace: float = 0.2, stop: bool = False) -> tuple[list[str], Progress, list[int]]:
    """Have a team work until it ends; return the messages, the progress and the ids that were told."""
    messages: list[str] = []
    progress, told, control = Progress(), [], Control()

    async def main() -> None:
        async with Writer(patience=0) as writer, asyncio.timeout(20), Team(
            7, size, writer=writer, control=control, progress=progress, message=messages.append, grace=grace,
            saved=lambda ids, tally: (told.extend(ids), progress.saved(tally)),
        ) as team:  # fmt: skip
            team.end_of_plan()
            if stop:
                asyncio.get_running_loop().call_later(0.3, control.stop)
            await team.join()

    asyncio.run(main())
    return messages, progress, told


def test_what_is_reported_becomes_part_of_the_progress(program) -> None:
    program("""read line; test "$line" = planned || exit 1
echo '[[1,2],[{"succeeded":2},10,0,{"a:80":[2,2,0.5,0.4,0.5]}],[3,1]]'
echo '[[3],[{"failed":1},0,0,{}],[0,1]]'""")
    messages, progress, told = run_team()
    assert (messages, told) == ([], [1, 2, 3])
    assert (progress.done, progress.failed, progress.bytes, progress.in_flight) == (3, 1, 10, 0)


def test_one_that_ends_at_once_is_replaced_a_few_times_and_then_given_up(program, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.01)
    program(f"echo x >> {tmp_path}/starts; exit 1")
    messages, _, _ = run_team()
    assert (tmp_path / "starts").read_text() == "x\n" * 3
    assert messages[-1] == "worker 2 ended with exit code 1 3 times in a row; the run goes on without it"
    assert "ended with exit code 1; another takes its place" in messages[0]


def test_one_that_saves_something_before_it_dies_is_replaced_each_time(program, monkeypatch, tmp_path) -> None:
    program(f"""echo x >> {tmp_path}/starts
echo '[[1],[{{"succeeded":1}},0,0,{{}}],[0,0]]'
test $(wc -l < {tmp_path}/starts) -ge 6 && exit 0
kill -9 $$""")
    messages, progress, _ = run_team()
    assert progress.done == 6
    assert len(messages) == 5
    assert "was ended by SIGKILL" in messages[0]


def test_those_that_do_not_stop_within_the_grace_period_are_killed(program) -> None:
    program("exec sleep 30")
    messages, _, _ = run_team(size=2, stop=True)
    assert messages == []


def test_they_are_told_to_stop(program) -> None:
    program("""read planned; read line; test "$line" = stop || exit 1
echo '[[9],[{"succeeded":1},0,0,{}],[0,0]]'""")
    _, _, told = run_team(grace=5, stop=True)
    assert told == [9]


def test_what_is_no_report_is_passed_over(program) -> None:
    program("""echo 'settings loaded'
echo '[[1],[{"succeeded":1},0,0,{}],[0,0]]'
printf '[[2],[{"succ'""")
    messages, progress, told = run_team()
    assert (messages, told, progress.done) == ([], [1], 1)


def test_after_the_grace_period_they_have_a_moment_to_save_what_they_have(program) -> None:
    program("""read planned; read stop; sleep 0.3
echo '[[9],[{"succeeded":1},0,0,{}],[0,0]]'""")
    told: list[int] = []
    control = Control()

    async def main() -> None:
        async with Writer(patience=0) as writer, Team(
            7, 1, writer=writer, control=control, progress=Progress(), message=[].append, grace=0.2,
            saved=lambda ids, tally: told.extend(ids),
        ) as team:  # fmt: skip
            team.end_of_plan()
            await asyncio.sleep(0.3)
            control.stop()
            await asyncio.sleep(0.2)  # the grace period; then the command's own work is cancelled
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert told == [9]
