"""``make crash``: kills and stops real runs, and checks that nothing is lost.

Every line names its case; ``--seed S --only CASE`` repeats it. Exit code 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.dev")

import django

django.setup()

from fetcher.demo.origin import ThreadedOrigin  # noqa: E402
from tests.crash import cases, kills, runs, stops  # noqa: E402
from tests.crash.cases import KINDS, RANDOM, WHO, Case  # noqa: E402
from tests.crash.databases import remove  # noqa: E402
from tests.crash.points import ALONE, POINTS, RESUMED  # noqa: E402
from tests.crash.runs import Course, Report  # noqa: E402
from tests.crash.script import LISTENERS, Hanging  # noqa: E402
from tests.crash.site import Site, migrated  # noqa: E402
from tests.crash.table import bound, table  # noqa: E402
from tests.support.postgres import reason_against  # noqa: E402

_SIDE_BY_SIDE = 2
_EVIDENCE = 1000
"""Characters of what a violation says, from the end."""
_POSTGRES = os.environ.get("TEST_POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"


def main() -> int:
    """Run what the options ask for."""
    options = _options()
    kinds = _kinds(options)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    points = options.points or [*POINTS, RANDOM]
    planned = options.only or [
        *cases.kills(draw, options.kills, kinds, options.who, points),
        *cases.stops(draw, options.signals, kinds, options.who),
    ]
    print(f"seed {seed}: {len(planned)} runs", flush=True)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="trawl-crash-"))
    try:
        with _sites({case.kind for case in planned}, folder) as sites:
            reports = _all(planned, sites, seed)
    except runs.Unfit as exc:
        print(exc)
        return 1
    broken = [report for report in reports if report.violations]
    killed = [report for report in reports if not report.case.is_signal]
    print(f"\n{table(reports)}\n")
    if killed:
        print(bound(killed))
    stopped = [report for report in reports if report.case.is_signal]
    if stopped:
        good = sum(not report.violations for report in stopped)
        print(f"{good} of {len(stopped)} runs that were asked to stop did so in time and were resumed")
    print(f"{time.monotonic() - began:.0f} s")
    if not broken:
        remove(folder)
    return int(bool(broken))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="runs that are killed (20)")
    parser.add_argument("--signals", type=int, default=5, metavar="N", help="runs that are asked to stop (5)")
    parser.add_argument("--seed", type=int, help="repeats the same choices")
    parser.add_argument("--database", choices=(*KINDS, "both"), default="both")
    parser.add_argument("--who", action="append", choices=WHO, help="who is hit; repeatable (all)")
    parser.add_argument("--points", nargs="+", choices=(*POINTS, RANDOM), help="where kills happen (everywhere)")
    parser.add_argument(
        "--only", nargs="+", type=cases.parse_case, metavar="CASE", help="sqlite/alone/plan.written:2#0"
    )
    options = parser.parse_args()
    options.who = options.who or list(WHO)
    return options


def _kinds(options: argparse.Namespace) -> list[str]:
    wanted = KINDS if options.database == "both" else (options.database,)
    if "postgres" not in wanted or (reason := reason_against(_POSTGRES)) is None:
        return list(wanted)
    print(f"PostgreSQL is left out: {reason}. Set TEST_POSTGRES_URL to a server.", file=sys.stderr)
    if os.environ.get("TRAWL_REQUIRE_SERVICES") or options.database == "postgres":
        sys.exit(1)
    return ["sqlite"]


@contextlib.contextmanager
def _sites(kinds: set[str], folder: Path) -> Iterator[list[Site]]:
    with contextlib.ExitStack() as stack:
        empty = {}
        for kind in kinds:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"empty-{kind}-", dir=folder)))
            empty[kind] = migrated(kind, place, _POSTGRES)
            stack.callback(empty[kind].drop)
        sites = []
        for _ in range(_SIDE_BY_SIDE):
            hanging = Hanging()
            origin = stack.enter_context(ThreadedOrigin(listeners=LISTENERS, routes={"hang": hanging}))
            sites.append(Site(origin, hanging, empty, folder))
            stack.callback(sites[-1].close)
        yield sites


def _all(planned: list[Case], sites: list[Site], seed: int) -> list[Report]:
    """Do all cases, as many side by side as there are sites, after an undisturbed run of each sort."""
    free: queue.SimpleQueue[Site] = queue.SimpleQueue()
    for site in sites:
        free.put(site)

    def at_a_site(act: Callable[[Site], Course | Report]) -> Course | Report:
        site = free.get()
        try:
            return act(site)
        finally:
            free.put(site)

    courses: dict[tuple[str, str], Course] = {}

    def do(case: Case) -> Report:
        course = courses[_course(case)]
        act = stops.stop if case.is_signal else kills.kill
        report = at_a_site(lambda site: act(site, case, course, seed))
        assert isinstance(report, Report)
        _print(report, seed)
        return report

    with ThreadPoolExecutor(len(sites)) as pool:
        sorts = sorted({_course(case) for case in planned})
        measure = {
            sort: pool.submit(at_a_site, lambda site, sort=sort: runs.undisturbed(site, *sort)) for sort in sorts
        }
        for sort, future in measure.items():
            course = future.result()
            assert isinstance(course, Course)
            courses[sort] = course
        return list(pool.map(do, planned))


def _course(case: Case) -> tuple[str, str]:
    """Return the database and victim whose undisturbed course tells where a case can happen."""
    return case.kind, ALONE if case.who == RESUMED else case.who


def _print(report: Report, seed: int) -> None:
    word = "BROKEN" if report.violations else "ok"
    figures = f"{report.recorded} of {report.accepted} saved, {report.flying} in flight, {report.again} again"
    print(f"{word:<6} {report.case!s:<44} {figures} ({report.seconds:.1f} s)", flush=True)
    for violation in report.violations[:20]:
        print(f"       {str(violation)[-_EVIDENCE:]}")
    if report.violations:
        print(f"       kept: {report.folder}, {report.url}")
        print(f"       repeat: python -m tests.crash --seed {seed} --only '{report.case}'", flush=True)


if __name__ == "__main__":
    sys.exit(main())
