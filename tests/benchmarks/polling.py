"""A job of 100,000 URLs that do not change, every five minutes for an hour: what each run costs, and what stays.

The hour is simulated: its twelve runs come one after the other, as a crontab would begin them.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.origins import benchmark_origin
from tests.benchmarks.project import ROOT, migrate, variables
from tests.benchmarks.unchanged import TAGGED

COUNT, RUNS, KEPT = 100_000, 12, 3
_TABLES = ("target", "result", "body", "representation", "shard", "lane")


@dataclass(frozen=True, slots=True)
class State:
    """The database after a run: rows by table, the file's bytes, and how many of them are in free pages."""

    cpu: float
    rows: dict[str, int]
    size: int
    free: int


def measure() -> list[Figure]:
    """Return what a run adds before retention begins to work, what it costs, and what the file has come to since."""
    with benchmark_origin(100) as nginx, tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        directory = Path(name)
        listing = directory / "urls.txt"
        listing.write_text("\n".join(nginx.urls(TAGGED, COUNT)))
        migrate(directory)
        options = ["--file", str(listing), "--every", "5m", "--keep-runs", str(KEPT)]
        _manage(directory, ["job", "add", "poll", *options, "--per-host", "100", "--concurrency", "200"])
        states = [_run(directory) for _ in range(RUNS)]
    return _figures(states)


def _figures(states: Sequence[State]) -> list[Figure]:
    # Of the first run everything is new; with the one after the last that is kept retention begins to remove.
    growing, steady = states[:KEPT], states[KEPT:]
    added = {
        table: (growing[-1].rows[table] - growing[0].rows[table]) / (KEPT - 1)
        for table in _TABLES
        if growing[-1].rows[table] != growing[0].rows[table]
    }
    cpu = statistics.median(state.cpu for state in states[1:])
    return [
        Figure(f"{COUNT:,} unchanged URLs: CPU of the first run", states[0].cpu, " s"),
        Figure("CPU of a later one, its retention included", cpu, " s"),
        Figure("the same for each URL", cpu / COUNT * 1e6, " µs"),
        *(Figure(f"rows that a run adds: {table}", rows) for table, rows in added.items()),
        Figure(
            "bytes that it adds for each URL",
            (growing[-1].size - growing[0].size) / (KEPT - 1) / COUNT,
            "",
            150,
            "at most",
        ),
        Figure(
            f"results after {RUNS} runs, {KEPT} of them kept", steady[-1].rows["result"], "", KEPT * COUNT, "at most"
        ),
        Figure("database after them", steady[-1].size / 2**20, " MiB"),
        Figure("of it in free pages", steady[-1].free / 2**20, " MiB"),
        Figure(f"the same / after run {KEPT + 1}", steady[-1].size / steady[0].size, "x", 1.1, "at most"),
    ]


def _run(directory: Path) -> State:
    cpu = _manage(directory, ["run_job", "poll", "--progress", "none"])
    with closing(sqlite3.connect(directory / "db.sqlite3")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = {table: connection.execute(f"SELECT count(*) FROM fetcher_{table}").fetchone()[0] for table in _TABLES}
        page, pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
        )
    return State(cpu, rows, page * pages, page * free)


def _manage(directory: Path, arguments: Sequence[str]) -> float:
    """Run a command and return its CPU seconds. Raises where it fails."""
    command = [sys.executable, "manage.py", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=variables(directory), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}"
    return _cpu(usage)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime
