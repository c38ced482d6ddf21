"""Contenders one after the other, round after round, each time in another order."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from tests.benchmarks.origins import CLIENT_CORE, started_on
from tests.benchmarks.peers.databases import Databases
from tests.benchmarks.peers.workloads import TITLES, Workload
from tests.benchmarks.project import ROOT
from tests.benchmarks.stacks.__main__ import UNAVAILABLE
from tests.benchmarks.stacks.measuring import Job, Report, Unavailable
from tests.support.nginx import Nginx

LONGEST = 900.0
"""Seconds after which a contender is ended."""

Contender = Callable[[Path], Report]
"""Does its work once, in an empty folder. Raises Unavailable and Failed."""


class Failed(Exception):
    """A contender did not do what it was asked to; the text says what it said."""


class Measured(msgspec.Struct):
    """A contender's reports, one a round, or why there are none."""

    reports: list[Report] = []
    reason: str = ""


def say(text: str) -> None:
    """Tell on standard error what is being done; on a terminal each text replaces the one before."""
    before, after = ("\r", "\x1b[K") if sys.stderr.isatty() else ("", "\n")
    print(f"{before}{text}", end=after, file=sys.stderr, flush=True)


def run_rounds(
    name: str, contenders: Mapping[str, Contender], rounds: int, scratch: Path, tell: Callable[[str], None] = say
) -> dict[str, Measured]:
    """Run all contenders so many times. One that is unavailable or fails is left out of the rounds that follow."""
    found = {contender: Measured([]) for contender in contenders}
    for number in range(rounds):
        for contender in _rotated(list(contenders), number):
            if found[contender].reason:
                continue
            tell(f"{name}, round {number + 1} of {rounds}: {TITLES.get(contender, contender)}")
            folder = Path(tempfile.mkdtemp(dir=scratch))
            try:
                found[contender].reports.append(contenders[contender](folder))
            except (Unavailable, Failed) as exc:
                found[contender] = Measured([], str(exc))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return found


def _rotated(names: list[str], number: int) -> list[str]:
    first = number * max(1, len(names) // 3) % len(names)
    return names[first:] + names[:first]


def stacks(
    workload: Workload, names: Sequence[str], nginx: Nginx, trusted: Path, databases: Databases, scale: float
) -> dict[str, Contender]:
    """Return a workload's stacks as contenders."""
    return {name: partial(_run_stack, workload, name, nginx, trusted, databases, scale) for name in names}


def _run_stack(
    workload: Workload, name: str, nginx: Nginx, trusted: Path, databases: Databases, scale: float, folder: Path
) -> Report:
    listing = folder / "urls.txt"
    urls = workload.urls(nginx, name, scale)
    listing.write_text("\n".join(urls))
    if workload.saves:
        databases.new_sqlite(folder)
    job = folder / "job.json"
    Job(str(listing), workload.in_flight, str(folder), str(trusted) if workload.secure else None).write(job)
    accepted, asked = nginx.counters()
    with started_on(CLIENT_CORE):
        done = finished([sys.executable, "-m", "tests.benchmarks.stacks", name, str(job)])
    # Less the second question for the counters itself, on a connection of its own.
    accepted, asked = (after - before - 1 for after, before in zip(nginx.counters(), (accepted, asked), strict=True))
    if done.returncode == UNAVAILABLE:
        raise Unavailable(done.stdout.strip())
    if done.returncode:
        raise Failed(_last_line(done.stderr))
    report = msgspec.json.decode(done.stdout, type=Report)
    if report.answers != len(urls) or asked < len(urls):
        raise Failed(f"{report.answers} answers and {asked} requests for {len(urls)} URLs")
    return dataclasses.replace(report, connections=accepted)


def finished(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in the project's folder, without proxies. Raises Failed where it takes too long."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {LONGEST:.0f} s") from None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "it ended without a word"
