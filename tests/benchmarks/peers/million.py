"""M: a million URLs through ``fetch_urls`` on SQLite, with one process and with two; whether memory grows meanwhile."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.benchmarks.peers.commands import options, read_report, variables
from tests.benchmarks.peers.databases import FILE, Databases
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.rounds import Failed, Measured, say
from tests.benchmarks.peers.workloads import MILLION
from tests.benchmarks.project import ROOT
from tests.benchmarks.stacks.measuring import Report, Unavailable
from tests.support.nginx import Nginx

WORKERS = {"one": 1, "two": 2}
EARLY = 0.1
"""The part of the results after which peaks are taken for the first time."""
_LOOK = 2.0
"""Seconds between two looks at the database."""


def measure_million(results: Results, nginx: Nginx, databases: Databases, scale: float, folder: Path) -> None:
    """Add both to the results. The clients are not kept to a core: two need more than one."""
    results.measured["M"] = {}
    for name, workers in WORKERS.items():
        say(f"M: {scale:g} of a million URLs, {workers} process{'es' if workers > 1 else ''}")
        here = folder / name
        here.mkdir()
        try:
            report, flatness = _fetch(name, workers, nginx, databases, scale, here)
        except (Failed, Unavailable) as exc:
            results.measured["M"][name] = Measured([], str(exc))
            continue
        results.measured["M"][name] = Measured([report])
        if workers == 2:
            results.flatness = flatness


def _fetch(
    name: str, workers: int, nginx: Nginx, databases: Databases, scale: float, folder: Path
) -> tuple[Report, list[float]]:
    database = databases.new_sqlite(folder)
    listing = folder / "urls.txt"
    urls = MILLION.urls(nginx, name, scale)
    listing.write_text("\n".join(urls))
    command = [sys.executable, "manage.py", "fetch_urls", "--file", str(listing), "--workers", str(workers)]
    out, err = folder / "out", folder / "err"
    began = time.perf_counter()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, *options(MILLION)], cwd=ROOT, env=variables(database, folder), stdout=stdout, stderr=stderr
        )
    try:
        early, late, cpu = _watched(process, folder / FILE, len(urls))
    finally:
        process.kill()
    whole = time.perf_counter() - began
    report = read_report(process.returncode, out, err, len(urls), cpu, whole)
    grown = [late[pid] / early[pid] for pid in early if early[pid] and late.get(pid)]
    return report, [max(grown)] if grown else []


def _watched(
    process: subprocess.Popen[bytes], database: Path, count: int
) -> tuple[dict[int, int], dict[int, int], float]:
    """Wait for the end; return each process's peak when a part was done and at the end, and the CPU of all."""
    early: dict[int, int] = {}
    late: dict[int, int] = {}
    begun = time.monotonic()
    looked = begun
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        time.sleep(0.1)
        peaks = {pid: _peak(pid) for pid in [process.pid, *_children(process.pid)]}
        late |= {pid: peak for pid, peak in peaks.items() if peak}
        if not early and time.monotonic() - looked > _LOOK:
            looked = time.monotonic()
            if _saved(database) >= EARLY * count:
                early = peaks
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    return early, late, ended[2].ru_utime + ended[2].ru_stime


def _saved(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        query = "SELECT coalesce(sum(succeeded + not_modified + failed + skipped), 0) FROM fetcher_lane"
        return int(connection.execute(query).fetchone()[0])


def _children(pid: int) -> Sequence[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak(pid: int) -> int:
    """Return the largest resident size of a process so far, in bytes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
