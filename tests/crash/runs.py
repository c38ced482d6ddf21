"""What kills and stops have in common: a run begun, and after the hit resumed and looked at."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import checks
from tests.crash.cases import Case
from tests.crash.checks import Violation
from tests.crash.points import COMMAND, FIRST, HELPER, PASSAGES, POINTS, WORKER
from tests.crash.script import Script, write_script
from tests.crash.site import LABEL, SOME_FAILED, Command, Hung, Scratch, Site
from tests.crash.snapshot import Snapshot, read_snapshot

COUNT = 500
"""URLs in a list; twice as many where several processes share the run."""
TEAM = 3
"""Processes of a run that several share."""
SETTLE = 0.1
"""Seconds in which the origin has noted what a process had sent when it was killed."""
_PER_HOST = ("--per-host", "4")


@dataclass(slots=True)
class Report:
    """What became of one run. ``again`` and ``flying`` count requests: repeated, and in flight when it was hit."""

    case: Case
    violations: list[Violation] = field(default_factory=list)
    accepted: int = 0
    recorded: int = 0
    again: int = 0
    flying: int = 0
    resumed: bool = False
    seconds: float = 0.0
    folder: Path | None = None
    url: str = ""

    def broken(self, check: str, evidence: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(check, evidence))


@dataclass(frozen=True, slots=True)
class Course:
    """How a run goes when nobody disturbs it: passages of each point by the process that makes the fewest, and times.

    ``begins`` and ``ends`` are seconds from the start of the command.
    """

    passages: dict[str, int]
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Hit:
    """When a process was killed: seconds since the epoch, and on the monotonic clock."""

    time: float
    monotonic: float


class Unfit(Exception):
    """The undisturbed run went otherwise than scripted, so that kills would show nothing."""


class NotHit(Exception):
    """The run ended before its time had come."""


def reported(site: Site, case: Case, act: Callable[[Scratch, Report], None]) -> Report:
    """Do something to a run of a case, and return what became of it; where a promise was broken its folder stays."""
    began = time.monotonic()
    with site.scratch(case.kind) as scratch:
        report = Report(case, folder=scratch.folder, url=scratch.database.url)
        try:
            act(scratch, report)
        except Hung as exc:
            report.broken(checks.HUNG, str(exc))
        except NotHit as exc:
            report.broken(checks.NOT_REACHED, str(exc))
        # A run that was over too early is tried again and shows nothing.
        scratch.keep = any(found.check != checks.NOT_REACHED for found in report.violations)
    report.seconds = time.monotonic() - began
    return report


def script_for(site: Site, draw: random.Random, who: str, *, hanging: int = 0) -> Script:
    """Return a list that keeps a victim and its fellows busy for a second or two."""
    return write_script(draw, site.netlocs, count=COUNT * (2 if _shares(who) else 1), hanging=hanging)


def begin(
    scratch: Scratch,
    script: Script,
    who: str,
    interrupted: Snapshot | None = None,
    environment: dict[str, str] | None = None,
) -> Command:
    """Start the process that is to be hit: a new run's, or one that resumes."""
    if interrupted is not None:
        return scratch.fetch("--resume", str(interrupted.run), *_workers(who), environment=environment)
    return scratch.fetch(
        *scratch.listing(script), "--label", LABEL, *_PER_HOST, *_workers(who), environment=environment
    )


def _shares(who: str) -> bool:
    return who in (FIRST, HELPER)


def _workers(who: str) -> tuple[str, ...]:
    return ("--workers", str(TEAM)) if _shares(who) else ()


def undisturbed(site: Site, kind: str, who: str) -> Course:
    """Run a list to its end and note every passage. Raises Unfit."""
    with site.scratch(kind) as scratch:
        script = script_for(site, random.Random(0), who)
        passages = scratch.folder / "passages"
        command = begin(scratch, script, who, environment={PASSAGES: str(passages)})
        code = command.wait()
        if code != SOME_FAILED:
            raise Unfit(f"the undisturbed run of {kind}/{who} ended with {code}: {command.text}")
        ends = time.monotonic() - command.began
        snapshot = read_snapshot(scratch.database, LABEL)
        assert snapshot is not None
        if found := checks.at_any_time(snapshot) + checks.at_the_end(snapshot, script):
            raise Unfit(f"the undisturbed run of {kind}/{who} is wrong: {'; '.join(map(str, found))}")
        if again := checks.repeated(Counter(entry.path for entry in scratch.log), script):
            raise Unfit(f"the undisturbed run of {kind}/{who} repeated requests: {again}")
        lines = [line.split() for line in passages.read_text().splitlines()]
    begins = min(float(moment) for _, _, name, moment in lines if name == "begin.after") - command.began
    made: dict[str, Counter[str]] = {}
    for role, pid, name, _ in lines:
        if role == (WORKER if who == HELPER else COMMAND):
            made.setdefault(pid, Counter())[name] += 1
    least = {name: min((counts[name] for counts in made.values()), default=0) for name in POINTS}
    unpassed = sorted(name for name, point in POINTS.items() if who in point.who and not least[name])
    if unpassed:
        raise Unfit(f"the undisturbed run of {kind}/{who} never passed {', '.join(unpassed)}")
    return Course(least, begins, ends)


def look(scratch: Scratch, report: Report) -> Snapshot | None:
    """Read the run and check what must hold at any time, and the database itself. None where there is no run."""
    snapshot = read_snapshot(scratch.database, LABEL)
    report.violations += [Violation(checks.DAMAGED, text) for text in scratch.database.damage()]
    if snapshot is not None:
        report.violations += checks.at_any_time(snapshot)
    elif scratch.log:
        report.broken(checks.LOST, "there were requests and there is no run")
    return snapshot


def in_flight(
    scratch: Scratch,
    report: Report,
    script: Script,
    snapshot: Snapshot | None,
    *,
    since: float = 0.0,
    hit: Hit | None = None,
) -> Counter[str]:
    """Return the paths that were requested after ``since`` (monotonic seconds) and in flight at the hit, each once.

    Without a hit: when the last process of the run had ended.
    """
    if snapshot is not None:
        report.accepted, report.recorded = snapshot.accepted, len(snapshot.results)
    time.sleep(SETTLE)
    until = float("inf") if hit is None else hit.monotonic + SETTLE
    asked = {entry.path for entry in scratch.log if since <= entry.started <= until}
    # What another process began and recorded after the hit is not what had been recorded by then.
    recorded = checks.paths_of(snapshot, script, until=None if hit is None else hit.time) if snapshot else set()
    return Counter(checks.in_flight(asked, recorded, script))


def resume(scratch: Scratch, report: Report, snapshot: Snapshot) -> None:
    """Resume a run where anything is left of it, and check that it finishes."""
    if snapshot.state == "completed":
        return
    command = scratch.fetch("--resume", str(snapshot.run), *_workers(report.case.who))
    if (code := command.wait()) != SOME_FAILED:
        report.broken(checks.RESUME, f"--resume {snapshot.run} ended with {code}, not {SOME_FAILED}: {command.text}")


def conclude(scratch: Scratch, report: Report, script: Script, flying: Counter[str]) -> None:
    """Check that all of the list is there once, that nothing else was repeated, and that nothing is left to do."""
    report.flying = flying.total()
    ended = not report.violations
    last = look(scratch, report)
    assert last is not None
    if ended:  # otherwise the rest follows from what is known already
        report.violations += checks.at_the_end(last, script)
    again = checks.repeated(Counter(entry.path for entry in scratch.log), script)
    report.again = sum(again.values())
    report.violations += checks.only_what_was_in_flight(again, flying)
    report.resumed = not report.violations
    if last.state == "completed":
        _nothing_to_do(scratch, report, last.run)


def _nothing_to_do(scratch: Scratch, report: Report, run: int) -> None:
    requests = len(scratch.log)
    command = scratch.fetch("--resume", str(run))
    code = command.wait()
    if code != 1 or "Traceback" in command.text or len(scratch.log) != requests:
        text = f"--resume {run} of a completed run ended with {code} after {len(scratch.log) - requests} requests"
        report.broken(checks.RESUME, f"{text}: {command.text}")
