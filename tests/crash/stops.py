"""SIGINT and SIGTERM to a run, once or twice, at random times."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import replace

from tests.crash import checks, runs
from tests.crash.cases import Case
from tests.crash.runs import Course, Report
from tests.crash.site import GRACE, LABEL, Hung, Scratch, Site, wait_until
from tests.crash.snapshot import Snapshot, read_snapshot

HANGING = 3
"""URLs that hang longer than the grace period."""
_BETWEEN = 0.2
"""Seconds between two signals."""
_AT_ONCE = 1.0
"""Seconds in which the second one must be obeyed, and which the first has beyond its grace period."""


def stop(site: Site, case: Case, course: Course, seed: int) -> Report:
    """Ask a run to stop and check that it does so in time, and can be resumed."""
    draw = case.draw(seed)
    moment = round(draw.uniform(0, course.ends - course.begins), 3)
    case = replace(case, when=moment if case.when is None else case.when)
    try:
        return runs.reported(site, case, lambda scratch, report: _stop(site, scratch, report, draw))
    finally:
        site.hanging.active = False


def _stop(site: Site, scratch: Scratch, report: Report, draw: random.Random) -> None:
    case = report.case
    assert case.when is not None
    script = runs.script_for(site, draw, case.who, hanging=HANGING)
    site.hanging.active = True
    command = runs.begin(scratch, script, case.who)
    if not wait_until(lambda: bool(scratch.log) or command.process.poll() is not None):
        raise Hung("there was no request")
    time.sleep(case.when)
    before = read_snapshot(scratch.database, LABEL)
    numbers = [signal.Signals[name] for name in case.where.split("+")]
    # A terminal signals the whole group, a supervisor only the process that it knows.
    send = command.signal_all if draw.random() < 0.5 else command.process.send_signal
    send(numbers[0])
    for number in numbers[1:]:
        time.sleep(_BETWEEN)
        send(number)
    last = time.monotonic()
    code = command.wait()
    command.wait_for_all()
    took = time.monotonic() - last
    site.hanging.active = False
    allowed = _AT_ONCE if len(numbers) > 1 else GRACE + _AT_ONCE
    if took > allowed:
        report.broken(checks.HUNG, f"it ended {took:.2f} s after the last signal, later than {allowed:g} s")
    if code not in {128 + number for number in numbers}:
        report.broken(checks.RESUME, f"it ended with {code}: {command.text}")
    snapshot = runs.look(scratch, report)
    assert snapshot is not None
    report.violations += _kept(before, snapshot)
    if f"--resume {snapshot.run}" not in command.text or "Traceback" in command.text:
        report.broken(checks.RESUME, f"standard error does not say how to resume run {snapshot.run}: {command.text}")
    flying = runs.in_flight(scratch, report, script, snapshot)
    runs.resume(scratch, report, snapshot)
    runs.conclude(scratch, report, script, flying)


def _kept(before: Snapshot | None, after: Snapshot) -> list[checks.Violation]:
    gone = {result.id for result in before.results} - {result.id for result in after.results} if before else set()
    return [checks.Violation(checks.LOST, f"{len(gone)} results were recorded before and are gone")] if gone else []
