"""SIGKILL to a process of a run, at a named point or at a random time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.crash import checks, runs
from tests.crash.cases import RANDOM, Case
from tests.crash.points import AT, COMMAND, FIRST, HELPER, MARKER, RESUMED, WORKER
from tests.crash.runs import Course, Hit, NotHit, Report
from tests.crash.script import Script
from tests.crash.site import SOME_FAILED, Command, Hung, Scratch, Site, is_running, wait_until
from tests.crash.snapshot import Snapshot

_ORPHANS = 10.0
"""Seconds in which helpers whose command was killed must end."""
_EARLY = 3 / 4
"""Up to which part of the passages that an undisturbed run makes a shot is set: they differ from run to run."""
_TRIES = 3


def kill(site: Site, case: Case, course: Course, seed: int) -> Report:
    """Kill a process of a run and check all that must hold after it.

    A run that is over before its time had come is no kill: then an earlier time is drawn, unless it was given.
    """
    for attempt in range(_TRIES):
        draw = case.draw(seed)
        moment = _moment(draw, case, course, attempt)
        drawn = replace(case, when=moment if case.when is None else case.when)
        report = runs.reported(site, drawn, partial(_kill, site, draw, course))
        if not any(violation.check == checks.NOT_REACHED for violation in report.violations) or case.when is not None:
            break
    return report


def _moment(draw: random.Random, case: Case, course: Course, attempt: int) -> float:
    """Return the passage's number, or the seconds from the start of the command."""
    if case.where == RANDOM:
        return round(draw.uniform(course.begins, course.begins + (course.ends - course.begins) / 2**attempt), 3)
    left = _EARLY / 2 if case.who == RESUMED else _EARLY
    return draw.randint(1, max(1, int(course.passages.get(case.where, 1) * left / 4**attempt)))


def _kill(site: Site, draw: random.Random, course: Course, scratch: Scratch, report: Report) -> None:
    _Kill(site, scratch, report, draw, course).go()


class _Kill:
    """One run that is killed. ``flying`` counts for each path how often it was in flight at a kill."""

    def __init__(self, site: Site, scratch: Scratch, report: Report, draw: random.Random, course: Course) -> None:
        self._scratch = scratch
        self._report = report
        self._draw = draw
        self._course = course
        self._script: Script = runs.script_for(site, draw, report.case.who)
        self._flying: Counter[str] = Counter()

    def go(self) -> None:
        """Kill, resume, and check before and after."""
        case = self._report.case
        if case.who == HELPER:
            self._kill_helper()
        else:
            snapshot = self._kill_command()
            if snapshot is None:  # nothing was accepted, so nothing can be lost
                self._report.resumed = True
                return
            runs.resume(self._scratch, self._report, snapshot)
        runs.conclude(self._scratch, self._report, self._script, self._flying)

    def _kill_helper(self) -> None:
        """The command puts another in its place and goes on."""
        command, hit = self._hit()
        snapshot = runs.look(self._scratch, self._report)
        self._flying += runs.in_flight(self._scratch, self._report, self._script, snapshot, hit=hit)
        if (code := command.wait()) != SOME_FAILED:
            self._report.broken(checks.RESUME, f"the command ended with {code}, not {SOME_FAILED}: {command.text}")

    def _kill_command(self) -> Snapshot | None:
        case = self._report.case
        snapshot = None
        if case.who == RESUMED:
            early = self._draw.randint(2, max(2, self._course.passages["plan.after"] // 2))
            self._shoot_at(f"plan.after:{early}")
            snapshot = runs.look(self._scratch, self._report)
            self._flying += runs.in_flight(self._scratch, self._report, self._script, snapshot)
        since = time.monotonic()
        command, _ = self._hit(snapshot)
        snapshot = runs.look(self._scratch, self._report)
        if case.who == FIRST:
            command.wait_for_all(_ORPHANS)
            snapshot = runs.look(self._scratch, self._report)
        self._flying += runs.in_flight(self._scratch, self._report, self._script, snapshot, since=since)
        return snapshot

    def _hit(self, interrupted: Snapshot | None = None) -> tuple[Command, Hit]:
        case = self._report.case
        if case.where != RANDOM:
            return self._shoot_at(f"{case.where}:{case.when:g}", interrupted)
        command = runs.begin(self._scratch, self._script, case.who, interrupted)
        return command, _kill_after(command, case, self._draw)

    def _shoot_at(self, point: str, interrupted: Snapshot | None = None) -> tuple[Command, Hit]:
        marker = self._scratch.folder / f"marker-{'second' if interrupted else 'first'}"
        role = WORKER if self._report.case.who == HELPER else COMMAND
        shot = {AT: f"{point}:{role}", MARKER: str(marker)}
        command = runs.begin(self._scratch, self._script, self._report.case.who, interrupted, shot)
        return command, _killed_itself(command, marker)


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
    if case.who == HELPER:
        victims = command.helpers()
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
