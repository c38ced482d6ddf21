"""(g) A million URLs planned and a fifth of them fetched by two processes: memory, size, and what the second gains."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import msgspec

from tests.benchmarks.figures import Figure
from tests.benchmarks.origins import FAST, benchmark_origin
from tests.benchmarks.project import ROOT, migrate, variables

PLANNED, FETCHED = 1_000_000, 200_000
EARLY = 50_000
"""Results after which peaks are taken for the first time."""
PAIRED, PAIRS = 20_000, 3
_OPTIONS = ("--per-host", "100", "--concurrency", "200", "--progress", "none")


def measure() -> list[Figure]:
    """Return memory, size and gain."""
    with benchmark_origin(100) as nginx, tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        directory = Path(name)
        (directory / "few").write_text("\n".join(nginx.urls(FAST, PAIRED)))
        gain = _gain(directory)
        with (directory / "many").open("w") as file:
            file.writelines(f"{nginx.url(f'{FAST}/{number}', number)}\n" for number in range(PLANNED))
        return [*gain, *_long_run(directory)]


def _long_run(directory: Path) -> list[Figure]:
    """Fetch until there are so many results and everything is planned, then interrupt."""
    database = _new_database(directory)
    peaks: dict[str, dict[int, int]] = defaultdict(dict)
    with _started(directory, "many", 2) as process:
        while True:
            counts = _counts(directory)
            phase = "early" if counts["done"] < EARLY else "late"
            for pid in [process.pid, *_children(process.pid)]:
                peaks[phase][pid] = _peak(pid) or peaks[phase].get(pid, 0)
            if counts["done"] >= FETCHED and counts["planned"] >= PLANNED:
                break
            assert process.poll() is None, "it ended too early"
            time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.wait()
    rows = _counts(directory)
    ratio = max(peaks["late"][pid] / peaks["early"][pid] for pid in peaks["early"] if peaks["late"].get(pid))
    helpers = peaks["late"].keys() - {process.pid}
    size = sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))
    return [
        Figure(
            f"{rows['planned']:,} planned, {rows['done']:,} fetched: the command's peak memory",
            _largest(peaks, process.pid),
            " MiB",
        ),
        Figure("the worker's peak memory", max(_largest(peaks, pid) for pid in helpers), " MiB"),
        Figure(f"peak at the end / after {EARLY:,} results, the larger", ratio, "x", 1.3, "at most"),
        Figure("bytes of database for each planned URL", size / rows["planned"], ""),
    ]


def _gain(directory: Path) -> list[Figure]:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(PAIRS):
        for workers in (1, 2):
            _new_database(directory)
            with _started(directory, "few", workers) as process:
                out, _ = process.communicate()
            assert process.returncode == 0, out
            seconds[workers].append(json.loads(out)["summary"]["elapsed_ms"] / 1000)
    medians = {workers: statistics.median(values) for workers, values in seconds.items()}
    return [
        Figure(f"{PAIRED:,} URLs, one process", PAIRED / medians[1], "/s"),
        Figure(f"{PAIRED:,} URLs, two processes", PAIRED / medians[2], "/s"),
        Figure("two processes / one", medians[1] / medians[2], "x"),
    ]


def _new_database(directory: Path) -> Path:
    for path in directory.glob("db.sqlite3*"):
        path.unlink()
    migrate(directory)
    return directory / "db.sqlite3"


def _started(directory: Path, listing: str, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "fetch_urls", "--file", str(directory / listing), *_OPTIONS]
    command += ["--workers", str(workers), "--output", "json" if listing == "few" else "summary"]
    return subprocess.Popen(command, cwd=ROOT, env=variables(directory), stdout=subprocess.PIPE, text=True)


def _counts(directory: Path) -> dict[str, int]:
    shown = subprocess.run(
        [sys.executable, "manage.py", "runs", "list", "--output", "json"],
        cwd=ROOT, env=variables(directory), capture_output=True, text=True, check=True,
    )  # fmt: skip
    runs = msgspec.json.decode(shown.stdout)
    if not runs:
        return {"planned": 0, "done": 0}
    return {"planned": runs[0]["total"], "done": runs[0]["total"] - runs[0]["pending"]}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _peak(pid: int) -> int:
    """Return the largest resident size of a process so far, in bytes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _largest(peaks: dict[str, dict[int, int]], pid: int) -> float:
    return max(found.get(pid, 0) for found in peaks.values()) / 2**20
