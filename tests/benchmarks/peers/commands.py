"""``manage.py fetch_urls`` as a whole process, on each database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from tests.benchmarks.origins import CLIENT_CORE, started_on
from tests.benchmarks.peers.databases import Databases
from tests.benchmarks.peers.rounds import Contender, Failed
from tests.benchmarks.peers.workloads import Workload
from tests.benchmarks.project import ROOT, environment
from tests.benchmarks.stacks.measuring import Report
from tests.support.nginx import Nginx

COMMANDS = {
    "sqlite": (False, False),
    "sqlite-million": (False, True),
    "postgres": (True, False),
    "postgres-million": (True, True),
}
"""Names to whether it is on PostgreSQL, and whether the database has results already."""


class Summary(msgspec.Struct):
    """What is read of ``--output json``'s summary."""

    elapsed_ms: float


class Run(msgspec.Struct):
    """What is read of its run."""

    succeeded: int


class Printed(msgspec.Struct):
    """What is read of ``--output json``."""

    run: Run
    summary: Summary


def commands(
    workload: Workload, names: Sequence[str], nginx: Nginx, databases: Databases, scale: float
) -> dict[str, Contender]:
    """Return the command on each database as contenders."""
    return {name: partial(_fetch, workload, name, nginx, databases, scale) for name in names}


def options(workload: Workload) -> list[str]:
    """Return ``fetch_urls``' options without a limit for each host."""
    in_flight = str(workload.in_flight)
    return ["--concurrency", in_flight, "--per-host", in_flight, "--progress", "none", "--output", "json"]


def variables(database: str, folder: Path) -> dict[str, str]:
    """Return the environment of a command."""
    return {**os.environ, **environment({"DATABASE_URL": database, "MEDIA_ROOT": str(folder / "media")})}


def _fetch(workload: Workload, name: str, nginx: Nginx, databases: Databases, scale: float, folder: Path) -> Report:
    postgres, filled = COMMANDS[name]
    database = databases.new_postgres(filled=filled) if postgres else databases.new_sqlite(folder, filled=filled)
    listing = folder / "urls.txt"
    urls = workload.urls(nginx, name, scale)
    listing.write_text("\n".join(urls))
    command = [sys.executable, "manage.py", "fetch_urls", "--file", str(listing), *options(workload)]
    return timed(command, variables(database, folder), len(urls), folder)


def timed(command: Sequence[str], environment: Mapping[str, str], count: int, folder: Path) -> Report:
    """Run the command pinned to the clients' core; its seconds are those that its summary tells. Raises Failed."""
    out, err = folder / "out", folder / "err"
    began = time.perf_counter()
    with out.open("wb") as stdout, err.open("wb") as stderr, started_on(CLIENT_CORE):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        process.kill()  # which does nothing once it has ended
    whole = time.perf_counter() - began
    return read_report(process.returncode, out, err, count, usage.ru_utime + usage.ru_stime, whole)


def read_report(code: int, out: Path, err: Path, count: int, cpu: float, whole: float) -> Report:
    """Return the report of a command that has ended. Raises Failed where it did not fetch everything."""
    if code:
        lines = err.read_text().strip().splitlines()
        raise Failed(f"fetch_urls ended with {code}: {lines[-1] if lines else ''}")
    printed = msgspec.json.decode(out.read_bytes(), type=Printed)
    if printed.run.succeeded != count:
        raise Failed(f"{printed.run.succeeded} of {count} succeeded")
    return Report(count, -1, printed.summary.elapsed_ms / 1000, cpu, 0, 0, whole)
