"""SIGKILL to a process of a run, at a named point or at a random time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

from tests.crash import checks, runs
from tests.crash.cases import RANDOM, Case
from tests.crash.points import AT, COMMAND, COMMAND_OF_TWO, MARKER, WORKER, WORKER_OF_TWO
from tests.crash.runs import Course, Hit, NotHit, Report
from tests.crash.script import write_script
from tests.crash.site import SOME_FAILED, Command, Hung, Scratch, Site, is_running, wait_until

_ORPHANS = 30.0
"""Seconds in which workers whose command was killed must end."""
_EARLY = 3 / 4
"""Up to which part of the passages that an undisturbed run makes a shot is set: they differ from run to run."""
_TRIES = 3


def kill(site: Site, case: Case, course: Course, seed: int) -> Report:
    """Kill a process of a run and check all that must hold after it.

    A run that is over before its time had come is no kill: then an earlier time is drawn, unless it was given.
    """
    draw = case.draw(seed)
    for attempt in range(_TRIES):
        drawn = case if case.when is not None else replace(case, when=_moment(draw, case, course, attempt))
        report = runs.reported(site, drawn, lambda scratch, report: _kill(site, scratch, report, draw))
        if not any(violation.check == checks.NOT_REACHED for violation in report.violations) or case.when is not None:
            break
    return report


def _moment(draw: random.Random, case: Case, course: Course, attempt: int) -> float:
    if case.where == RANDOM:
        return round(draw.uniform(course.begins, course.begins + (course.ends - course.begins) / 2**attempt), 3)
    return draw.randint(1, max(1, int(course.passages[case.where] * _EARLY / 4**attempt)))


def _kill(site: Site, scratch: Scratch, report: Report, draw: random.Random) -> None:
    case = report.case
    script = write_script(draw, site.netlocs, count=runs.COUNT)
    if case.where == RANDOM:
        command = runs.begin(scratch, script, case.who)
        hit = _kill_after(command, case, draw)
    else:
        marker = scratch.folder / "marker"
        role = WORKER if case.who == WORKER_OF_TWO else COMMAND
        shot = {AT: f"{case.where}:{case.when:g}:{role}", MARKER: str(marker)}
        command = runs.begin(scratch, script, case.who, shot)
        hit = _killed_itself(command, marker)
    snapshot = runs.look(scratch, report)
    if case.who == WORKER_OF_TWO:
        # The command replaces it and goes on.
        flying = runs.in_flight(scratch, script, snapshot, hit)
        if (code := command.wait()) != SOME_FAILED:
            report.broken(checks.RESUME, f"the command ended with {code}, not {SOME_FAILED}: {command.text}")
        runs.conclude(scratch, report, script, flying)
        return
    if case.who == COMMAND_OF_TWO:
        command.wait_for_all(_ORPHANS)
        snapshot = runs.look(scratch, report)
    if snapshot is not None:
        flying = runs.in_flight(scratch, script, snapshot)
        runs.resume(scratch, report, snapshot)
        runs.conclude(scratch, report, script, flying)


def _killed_itself(command: Command, marker: Path) -> Hit:
    wait_until(lambda: marker.exists() or command.process.poll() is not None)
    if not marker.exists():
        raise NotHit(f"the run ended with {command.process.poll()} and did not pass there so often: {command.text}")
    shot = json.loads(marker.read_text())
    _wait_for_death(shot["pid"])
    return Hit(shot["time"], shot["monotonic"])


def _kill_after(command: Command, case: Case, draw: random.Random) -> Hit:
    assert case.when is not None
    time.sleep(max(0.0, command.began + case.when - time.monotonic()))
    if case.who == WORKER_OF_TWO:
        victims = command.workers()
    else:
        victims = [] if command.process.poll() is not None else [command.process.pid]
    if not victims:
        raise NotHit(f"nobody to kill was there after {case.when:g} s: {command.text}")
    victim = draw.choice(victims)
    hit = Hit(time.time(), time.monotonic())
    os.kill(victim, signal.SIGKILL)
    _wait_for_death(victim)
    return hit


def _wait_for_death(pid: int) -> None:
    if not wait_until(lambda: not is_running(pid)):
        raise Hung(f"process {pid} was killed and still runs")
