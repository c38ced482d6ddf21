"""``make cluster``: real clusters drain runs, are killed and lose their servers, and nothing is lost or done twice.

Every line names its case; ``--seed S --only CASE`` repeats it. Exit code 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.dev")

import django

django.setup()

from tests.cluster import cases  # noqa: E402
from tests.cluster.cases import FAULTS, POSTGRES, REDIS, SETUPS, SQLITE, Case  # noqa: E402
from tests.cluster.changes import SHORTENED  # noqa: E402
from tests.cluster.rounds import Report, play  # noqa: E402
from tests.cluster.servers import RedisMissing  # noqa: E402
from tests.cluster.stage import TIMES, Grounds, grounds  # noqa: E402
from tests.cluster.table import bound, table  # noqa: E402
from tests.crash.databases import remove  # noqa: E402
from tests.support.postgres import reason_against  # noqa: E402
from tests.support.postgres_cluster import ClusterMissing  # noqa: E402

DRAINED, FAULTED = 10_000, 2_000
"""URLs in a list, in the long form."""
SHORT_DRAINED, SHORT_FAULTED = 6_000, 1_000
_EVIDENCE = 1000
_POSTGRES = os.environ.get("TEST_POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"


def main() -> int:
    """Run what the options ask for."""
    options = _options()
    setups = _setups(options)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    planned = options.only or _planned(options, setups)
    planned = [case for case in planned if case.setup in setups]
    print(f"seed {seed}: {len(planned)} rounds", flush=True)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="trawl-cluster-"))
    try:
        with grounds(planned, folder, _POSTGRES) as shared:
            reports = [_play(shared, case, seed, options) for case in planned]
    except (RedisMissing, ClusterMissing) as exc:
        print(f"{exc}; --only and --setup leave such rounds out", file=sys.stderr)
        return 1
    print(f"\n{table(reports)}\n\n{bound(reports)}")
    shortened = ", ".join(name.rpartition(":")[2].lstrip("_") for name in SHORTENED)
    if any(not report.case.real for report in reports):
        print(
            f"waits were {TIMES} times shorter than they are: the slice, the sweep, the scheduler's look, {shortened}"
        )
    print(f"{time.monotonic() - began:.0f} s")
    broken = any(report.violations for report in reports)
    if not broken:
        remove(folder)
    return int(broken)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="every fault on every set-up, with lists of 10,000 URLs")
    parser.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="rounds of each fault, in the long form (20)"
    )
    parser.add_argument("--seed", type=int, help="repeats the same choices")
    parser.add_argument("--setup", action="append", choices=SETUPS, help="repeatable (all)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="repeatable (all); asks for the long form")
    parser.add_argument("--urls", type=int, metavar="N", help="URLs in a list")
    parser.add_argument("--only", nargs="+", type=cases.parse_case, metavar="CASE", help="'sqlite/kill one#0'")
    return parser.parse_args()


def _planned(options: argparse.Namespace, setups: list[str]) -> list[Case]:
    if options.long or options.fault:
        faults = options.fault or list(FAULTS)
        planned = cases.cases(setups, faults, options.rounds)
        if not options.fault:
            planned += cases.cases(setups, [cases.TAKEOVER, cases.ALL, cases.REDIS_DOWN], 1, real=True)
        return planned
    drains = cases.cases(setups, [cases.DRAIN], 1)
    return [
        *drains,
        *(case for case in (Case(SQLITE, cases.TAKEOVER), Case(REDIS, cases.REDIS_DOWN)) if case.setup in setups),
    ]


def _setups(options: argparse.Namespace) -> list[str]:
    """Return the set-ups that were asked for and whose servers are there."""
    wanted = list(options.setup or SETUPS)
    missing = {}
    if wanted != [SQLITE] and (reason := reason_against(_POSTGRES)):
        missing = dict.fromkeys([POSTGRES, REDIS], f"{reason}. Set TEST_POSTGRES_URL to a server")
    elif REDIS in wanted and shutil.which("redis-server") is None:
        missing = {REDIS: "redis-server is not installed (Debian: apt-get install redis-server)"}
    found = [setup for setup in wanted if setup not in missing]
    for setup in wanted:
        if setup in missing:
            print(f"The set-up {setup} is left out: {missing[setup]}.", file=sys.stderr)
    if found != wanted and (os.environ.get("TRAWL_REQUIRE_SERVICES") or options.setup):
        sys.exit(1)
    return found


def _play(shared: Grounds, case: Case, seed: int, options: argparse.Namespace) -> Report:
    long = options.long or options.fault or options.only
    drained, faulted = (DRAINED, FAULTED) if long else (SHORT_DRAINED, SHORT_FAULTED)
    count = options.urls or (drained if case.fault == cases.DRAIN else faulted)
    report = play(shared, case, seed, count * (3 if case.real else 1))
    _print(report, seed, options)
    return report


def _print(report: Report, seed: int, options: argparse.Namespace) -> None:
    word = "BROKEN" if report.violations else "ok"
    shares = " ".join(f"{name} {count}" for name, count in sorted(report.shares.items()))
    figures = (
        f"{report.recorded} saved, {report.again} again, done after {report.took:.1f} s, pause {report.pause:.1f} s"
    )
    print(f"{word:<6} {report.case!s:<32} {figures}; {shares}; {report.note} ({report.seconds:.0f} s)", flush=True)
    for violation in report.violations[:20]:
        print(f"       {str(violation)[-_EVIDENCE:]}")
    if report.violations:
        urls = f" --urls {options.urls}" if options.urls else ""
        print(f"       kept: {report.folder}, {report.url}")
        print(f"       repeat: python -m tests.cluster --seed {seed}{urls} --only '{report.case}'", flush=True)


if __name__ == "__main__":
    sys.exit(main())
