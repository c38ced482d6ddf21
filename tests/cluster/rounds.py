"""A round: a run is handed over, something happens in the middle of it, and what must hold is checked at its end."""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import cases, politeness
from tests.cluster.cases import Case
from tests.cluster.changes import SCHEDULER
from tests.cluster.servers import QCluster
from tests.cluster.stage import TIMES, Grounds, Stage
from tests.crash import checks
from tests.crash.checks import Violation
from tests.crash.script import Expected, Script, write_script
from tests.crash.site import LABEL, Hung, wait_until
from tests.crash.snapshot import read_snapshot

PER_HOST = 4
DELAY = 2.0
"""Seconds between two requests to a host, in the rounds that look at it: longer than it takes to wake somebody."""
LASTING = 12
"""Seconds that the delay alone makes these rounds last, with the shorter waits."""
CLOCK = 0.15
"""Seconds by which the origin's log may be wrong: it notes when it came to read a request, which is later than it was
sent by the time that many connections take that are opened at once."""
IDLE_SHARE, POLITE, NOISE, LATE, DUE = "share", "politeness", "noise", "late", "due"
SETTLE = 0.2
NORTH, SOUTH, EAST = "north", "south", "east"
LONGEST_PAUSE = 60 + 60 + 30 + 20
"""Seconds for which nobody may work on a run: a lease, the sweep, the scheduler who begins it, and the time for
which a lease that is over is watched. In shortened rounds it is shorter with them."""
SLACK = 13
"""Seconds beside them that are never shorter: a broker that was lost is asked again after ten, a process starts."""
JOBS, TIMES_DUE = 20, 5
_SMALL = "small"


@dataclass(slots=True)
class Report:
    """What became of one round.

    ``took`` is seconds from the fault to the run's end, or of the whole run; ``pause`` the longest time in it without
    a request in flight; ``again`` counts requests that were repeated, ``flying`` those in flight at the fault;
    ``messages`` what was in the queue at the end.
    """

    case: Case
    violations: list[Violation] = field(default_factory=list)
    recorded: int = 0
    again: int = 0
    flying: int = 0
    took: float = math.nan
    pause: float = math.nan
    messages: int = 0
    shares: Counter[str] = field(default_factory=Counter)
    note: str = ""
    seconds: float = 0.0
    folder: Path | None = None
    url: str = ""

    def broken(self, check: str, evidence: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(check, evidence))


def play(grounds: Grounds, case: Case, seed: int, count: int) -> Report:
    """Play a round with a list of ``count`` URLs, and return what became of it."""
    began = time.monotonic()
    with grounds.stage(case) as stage:
        report = Report(case, folder=stage.scratch.folder, url=stage.scratch.database.url)
        trial = Trial(stage, report, grounds.netlocs, case.draw(seed), count)
        try:
            ACTS[case.fault](trial)
        except Hung as exc:
            report.broken(checks.HUNG, str(exc))
            trial.look()
        stage.scratch.keep = bool(report.violations)
    report.seconds = time.monotonic() - began
    return report


class Trial:
    """One round while it is played."""

    def __init__(self, stage: Stage, report: Report, netlocs: list[str], draw: random.Random, count: int) -> None:
        self.stage = stage
        self.report = report
        self.netlocs = netlocs
        self.draw = draw
        self.count = count
        self.script = Script()
        self.flying: Counter[str] = Counter()
        self.killed: dict[int, float] = {}
        self.hit_at = 0.0

    def begin(self, *names: str, busy: bool = True) -> list[QCluster]:
        """Start clusters and hand a run over; a ``busy`` one goes on for a while, as its requests take a moment."""
        self.script = write_script(self.draw, self.netlocs, count=self.count, slow=0.7 if busy else 0.2)
        clusters = self.stage.start(*names)
        concurrency = ("--concurrency", "16") if busy else ("--concurrency", "100")
        listing = self.stage.scratch.listing(self.script)
        self.hit_at = time.monotonic()
        self.stage.hand_over(listing, "--per-host", str(PER_HOST), *concurrency)
        return clusters

    def await_middle(self, *clusters: QCluster) -> None:
        """Wait until a part of the list was asked for, by each of these clusters."""
        part = self.draw.uniform(0.1, 0.5)
        self.stage.await_requests(int(part * self.count))
        names = {cluster.name for cluster in clusters}
        if not wait_until(lambda: names <= politeness.shares(self.stage.log).keys(), self.stage.limit, every=0.05):
            raise Hung(f"only {sorted(politeness.shares(self.stage.log))} of {sorted(names)} took part")

    def hit(self, act: Callable[[], object], *pids: int) -> None:
        """Do it, and note which requests of these processes were in flight."""
        if self.stage.state() == "completed":
            raise Hung("the run was over before anything happened to it: the list is too short")
        self.hit_at, hit_at = time.monotonic(), time.time()
        act()
        self.killed.update(dict.fromkeys(pids, self.hit_at))
        time.sleep(SETTLE)
        snapshot = read_snapshot(self.stage.scratch.database, LABEL)
        assert snapshot is not None
        asked = {
            entry.path
            for entry in self.stage.log
            if politeness.sender(entry)[1] in pids and entry.started <= self.hit_at + SETTLE
        }
        recorded = checks.paths_of(snapshot, self.script, until=hit_at)
        self.flying += Counter(checks.in_flight(asked, recorded, self.script))

    def look(self) -> None:
        """Check what must hold at any time."""
        database = self.stage.scratch.database
        self.report.violations += [Violation(checks.DAMAGED, text) for text in database.damage()]
        snapshot = read_snapshot(database, LABEL)
        if snapshot is None:
            self.report.broken(checks.LOST, "there is no run")
            return
        self.report.recorded = len(snapshot.results)
        self.report.violations += checks.at_any_time(snapshot)
        if snapshot.state == "completed":
            self.report.violations += checks.at_the_end(snapshot, self.script)

    def conclude(self, *takers: str, quiet: bool = True, alone: bool = True) -> None:
        """Wait for the end and check everything. ``takers`` must have taken part; ``quiet``: no error is logged.

        ``alone``: no other run asked the same hosts.
        """
        self.stage.await_end()
        report, log = self.report, self.stage.log
        ended = max(entry.ended or entry.started for entry in log)
        report.took = ended - self.hit_at
        report.pause = max(politeness.pauses(log, max(self.hit_at, log[0].started), ended))
        allowed = LONGEST_PAUSE / self.stage.times + SLACK
        if report.pause > allowed:
            report.broken(LATE, f"nothing was in flight for {report.pause:.1f} s, {allowed:g} are allowed")
        self.look()
        again = checks.repeated(Counter(entry.path for entry in log), self.script)
        report.again, report.flying = sum(again.values()), self.flying.total()
        report.violations += checks.only_what_was_in_flight(again, self.flying)
        if alone:
            self.check_peaks()
        report.shares = politeness.shares(log)
        report.messages = self.stage.messages()
        for name in takers:
            if not report.shares[name]:
                report.broken(IDLE_SHARE, f"cluster {name} took no part: {dict(report.shares)}")
        if quiet:
            self.check_quiet()

    def check_peaks(self) -> None:
        """Check that no host was asked for more at once than it was to be."""
        for host, peak in politeness.peaks(self.stage.log, self.killed).items():
            if peak > PER_HOST:
                self.report.broken(POLITE, f"{host} had {peak} requests at once, more than {PER_HOST}")

    def check_gaps(self) -> None:
        """Check that the delay between two requests to a host was kept."""
        for host, (gap, entry) in politeness.gaps(self.stage.log).items():
            if gap < DELAY - CLOCK:
                at = f"{gap:.3f} s after the last request, not {DELAY:g}, at {entry.started - self.hit_at:.3f}"
                self.report.broken(POLITE, f"{host} was asked {at}; all of its requests: {self._told(host)}")

    def _told(self, host: str) -> str:
        """Return when a host was asked, in seconds since the hit, and by whom."""
        asked = [entry for entry in self.stage.log if entry.header("Host") == host]
        return ", ".join(f"{entry.started - self.hit_at:.3f} {politeness.sender(entry)[0]}" for entry in asked)

    def check_quiet(self) -> None:
        """Check that no cluster told of an error."""
        for cluster in self.stage.clusters:
            lines = cluster.text.splitlines()
            bad = [line for line in lines if "Traceback" in line or " ERROR " in line or "Failed '" in line]
            if bad:
                self.report.broken(NOISE, f"cluster {cluster.name} said {len(bad)} times something like: {bad[0]}")


def _drain(trial: Trial) -> None:
    trial.begin(NORTH, SOUTH, busy=False)
    trial.conclude(NORTH, SOUTH)


def _takeover(trial: Trial) -> None:
    north, south = trial.begin(NORTH, SOUTH)
    victim = trial.draw.choice([north, south])
    trial.await_middle(north, south)
    trial.hit(victim.kill, *victim.workers)
    trial.conclude(NORTH, SOUTH)


def _worker(trial: Trial) -> None:
    north, south = trial.begin(NORTH, SOUTH)
    victim = trial.draw.choice([north, south])
    trial.await_middle(north, south)
    (pid,) = victim.workers
    trial.hit(lambda: victim.kill_worker(pid), pid)
    trial.conclude(NORTH, SOUTH)


def _main(trial: Trial) -> None:
    """Those that it leaves behind go on; a supervisor would end them, and start another cluster."""
    north, south = trial.begin(NORTH, SOUTH)
    victim = trial.draw.choice([north, south])
    trial.await_middle(north, south)
    trial.hit(victim.kill_main)
    trial.conclude(NORTH, SOUTH)


def _all(trial: Trial) -> None:
    north, south = trial.begin(NORTH, SOUTH)
    trial.await_middle(north, south)

    def kill() -> None:
        for cluster in (north, south):
            cluster.kill()

    trial.stage.await_planned()
    trial.hit(kill, *north.workers, *south.workers)
    trial.stage.start(EAST)
    trial.conclude(NORTH, SOUTH, EAST)


def _terminate(trial: Trial) -> None:
    north, south = trial.begin(NORTH, SOUTH)
    victim = trial.draw.choice([north, south])
    trial.await_middle(north, south)
    trial.hit(victim.terminate)
    stopped = victim.await_end()
    trial.report.note = f"ended {stopped:.1f} s after SIGTERM"
    trial.conclude(NORTH, SOUTH)


def _redis(trial: Trial) -> None:
    server = trial.stage.redis
    assert server is not None
    clusters = trial.begin(NORTH, SOUTH)
    trial.await_middle(*clusters)

    def restart() -> None:
        server.stop()
        time.sleep(away)
        server.start()

    away = trial.draw.choice([0.0, 0.5, 2.0])
    trial.report.note = f"away for {away:g} s"
    trial.hit(restart)
    trial.conclude(NORTH, SOUTH, quiet=False)


def _postgres(trial: Trial) -> None:
    server = trial.stage.postgres
    assert server is not None
    clusters = trial.begin(NORTH, SOUTH)
    trial.await_middle(*clusters)
    away = trial.draw.choice([0.0, 1.0, 3.0])

    def restart() -> None:
        with server.away():
            time.sleep(away)

    trial.report.note = f"away for {away:g} s"
    trial.hit(restart)
    trial.conclude(NORTH, SOUTH, quiet=False)


def _join(trial: Trial) -> None:
    (north,) = trial.begin(NORTH)
    trial.await_middle(north)
    trial.stage.start(SOUTH)
    ready = trial.hit_at = time.monotonic()
    trial.conclude(NORTH, SOUTH)
    first = min((e.started for e in trial.stage.log if politeness.sender(e)[0] == SOUTH), default=math.inf)
    trial.report.note = f"the second had its first lane after {first - ready:.1f} s"
    allowed = 1 + 30 / trial.stage.times
    if first - ready > allowed:
        trial.report.broken(
            LATE, f"the cluster that joined sent nothing for {first - ready:.1f} s, {allowed:g} are allowed"
        )


def _behind(trial: Trial) -> None:
    clusters = trial.begin(NORTH, SOUTH)
    trial.await_middle(*clusters)
    trial.stage.await_planned()
    urls = [f"http://{netloc}/ok/{trial.draw.randrange(10**9, 10**12)}" for netloc in trial.netlocs]
    small = trial.stage.scratch.folder / "small.txt"
    small.write_text("\n".join(urls))
    trial.stage.hand_over(["--file", str(small)], label=_SMALL)
    if not wait_until(lambda: bool(trial.stage.state(_SMALL)), trial.stage.limit, every=0.02):
        raise Hung("the small run was not handed over")
    given = trial.hit_at = time.monotonic()
    trial.stage.await_end(_SMALL)
    took = time.monotonic() - given
    going = trial.stage.state() != "completed"
    paths = {url.partition("/ok/")[2] for url in urls}
    begun = min(e.started for e in trial.stage.log if e.path.startswith("/ok/") and e.path[4:] in paths) - given
    trial.report.note = f"the small run began after {begun:.1f} s and ended after {took:.1f} s"
    allowed = 1 + 30 / trial.stage.times
    if begun > allowed:
        trial.report.broken(LATE, f"{trial.report.note}; {allowed:g} s are allowed until it begins")
    if not going:
        trial.report.broken(checks.NOT_REACHED, "the large run was over first: its list is too short")
    trial.conclude(NORTH, SOUTH, alone=False)


def _delay(trial: Trial) -> None:
    _polite_begin(trial)
    trial.conclude(NORTH, SOUTH)
    trial.check_gaps()


def _delay_takeover(trial: Trial) -> None:
    north, south = _polite_begin(trial)
    victim = trial.draw.choice([north, south])
    trial.await_middle(north, south)
    trial.hit(victim.kill, *victim.workers)
    trial.conclude(NORTH, SOUTH)
    trial.check_gaps()


def _polite_begin(trial: Trial) -> list[QCluster]:
    """Hand over a list that lasts for several slices because of the delay alone."""
    netlocs = trial.netlocs[:20]
    each = math.ceil(LASTING / DELAY * TIMES / trial.stage.times)
    for number in range(each):
        for netloc in netlocs:
            path = f"/ok/{trial.draw.randrange(10**9, 10**12)}"
            trial.script.expected[f"http://{netloc}{path}"] = Expected(
                path, number * len(netlocs) + netlocs.index(netloc)
            )
    trial.script.lines += trial.script.expected
    trial.count = len(trial.script.lines)
    clusters = trial.stage.start(NORTH, SOUTH)
    trial.hit_at = time.monotonic()
    trial.stage.hand_over(trial.stage.scratch.listing(trial.script), "--host-delay", str(DELAY))
    return clusters


def _due(trial: Trial) -> None:
    stage = trial.stage
    _program(stage, "tests.cluster.due", "add", str(JOBS), *trial.netlocs)
    clusters = stage.start(NORTH, SOUTH)
    look = SCHEDULER / stage.times
    for number in range(1, TIMES_DUE + 1):
        trial.hit_at = time.monotonic()
        _program(stage, "tests.cluster.due", "now")
        if not wait_until(lambda wanted=number: _runs(stage)[1] >= JOBS * wanted, stage.limit, every=0.2):
            break
        trial.report.took = max(time.monotonic() - trial.hit_at, trial.report.took if number > 1 else 0)
        time.sleep(2 * look + 1)  # for whoever is late with the same alarm
    by_job, over = _runs(stage)
    wrong = {name: count for name, count in by_job.items() if count != TIMES_DUE}
    if len(by_job) != JOBS or wrong or over != JOBS * TIMES_DUE:
        runs = f"{sum(by_job.values())} runs, {over} completed"
        text = f"{JOBS} jobs were due {TIMES_DUE} times: {runs}; not so often: {wrong}"
        trial.report.broken(DUE, text)
    created = [len(re.findall(r"created task .* from schedule \[trawl job", cluster.text)) for cluster in clusters]
    trial.report.note = f"{JOBS} jobs {TIMES_DUE} times; the schedulers sent {created[0]} and {created[1]} alarms"
    trial.report.recorded = over
    trial.check_quiet()


def _program(stage: Stage, *arguments: str) -> None:
    process = stage.manage("-m", *arguments)
    if process.wait(stage.limit):
        raise Hung(f"{' '.join(arguments[:2])} ended with {process.returncode}")


def _runs(stage: Stage) -> tuple[dict[str, int], int]:
    """Return how many runs each job has, and how many of all are completed."""
    with stage.scratch.database.reading() as connection:
        rows = connection.execute("SELECT job_name, state FROM fetcher_run WHERE job_name LIKE 'due-%'").fetchall()
    return dict(Counter(name for name, _ in rows)), sum(state == "completed" for _, state in rows)


ACTS: dict[str, Callable[[Trial], None]] = {
    cases.DRAIN: _drain,
    cases.TAKEOVER: _takeover,
    cases.WORKER: _worker,
    cases.MAIN: _main,
    cases.ALL: _all,
    cases.TERM: _terminate,
    cases.REDIS_DOWN: _redis,
    cases.POSTGRES_DOWN: _postgres,
    cases.JOIN: _join,
    cases.BEHIND: _behind,
    cases.DELAY: _delay,
    cases.DELAY_TAKEOVER: _delay_takeover,
    cases.DUE: _due,
}
