"""The points are there, and a process that comes to one dies at the passage that was asked for, once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable

import pytest

from tests.crash.points import POINTS, SHORTENED, find
from tests.support.processes import ROOT

_PROGRAM = """
import asyncio, functools, sys
from pathlib import Path
from tests.crash import points
from tests.crash import test_points as this
shoot = functools.partial(points._shoot, Path(sys.argv[1]), "x")
points.wrap(points.Point("x", "tests.crash.test_points:{function}", "{moment}"), points._at_passage(3, shoot))
for number in range(4):
    value = this.{function}()
    if asyncio.iscoroutine(value):
        asyncio.run(this.lingering(value))
"""


def plain() -> str:
    print("passed", flush=True)
    return "value"


async def waits() -> str:
    return plain()


async def lingering(coroutine: Awaitable[str]) -> None:
    await coroutine
    await asyncio.sleep(0.1)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", sorted({*SHORTENED, *(point.function for point in POINTS.values())}))
def test_every_name_exists(name):
    find(name)


@pytest.mark.parametrize(
    ("function", "moment", "passages"),
    [("plain", "before", 2), ("plain", "after", 3), ("waits", "before", 2), ("waits", "waiting", 3)],
)
def test_a_process_dies_at_the_passage_that_was_asked_for(tmp_path, function, moment, passages):
    program = _PROGRAM.format(function=function, moment=moment)
    died = run(program, tmp_path / "marker")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert died.stdout == "passed\n" * passages
    assert json.loads((tmp_path / "marker").read_text())["at"] == "x"


def test_nobody_dies_after_the_first(tmp_path):
    (tmp_path / "marker").touch()
    survived = run(_PROGRAM.format(function="plain", moment="before"), tmp_path / "marker")
    assert (survived.returncode, survived.stdout) == (0, "passed\n" * 4)
