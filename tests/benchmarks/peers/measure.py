"""``make bench``: Trawl beside its peers, a table, a chart and a page."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.origins import secure_origin
from tests.benchmarks.peers import chart, page
from tests.benchmarks.peers.commands import COMMANDS, commands
from tests.benchmarks.peers.databases import Databases
from tests.benchmarks.peers.goals import rows
from tests.benchmarks.peers.machine import describe_machine, describe_versions
from tests.benchmarks.peers.million import measure_million
from tests.benchmarks.peers.results import FOLDER, Results
from tests.benchmarks.peers.rounds import run_rounds, say, stacks
from tests.benchmarks.peers.workloads import HOSTS, WORKLOADS
from tests.benchmarks.project import ROOT
from tests.benchmarks.stacks.measuring import allow_many_files

SERVER = os.environ.get("TEST_POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"
PEERS, MILLION = FOLDER / "peers.json", FOLDER / "million.json"
FILLED = 1_000_000
_BUSY = 0.7
"""Processes waiting for a core, beside which nothing can be measured."""


def measure_peers(only: Sequence[str], scale: float, rounds: int) -> Results:
    """Measure these workloads (none: all of them)."""
    results = _begun(scale)
    with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        folder = Path(name)
        origin = folder / "origin"
        origin.mkdir()
        with (
            Databases(folder, SERVER, max(500, round(FILLED * scale))) as databases,
            secure_origin(HOSTS, origin) as (nginx, trusted),
        ):
            for workload in WORKLOADS.values():
                if only and workload.name not in only:
                    continue
                programs = [name for name in workload.stacks if name not in COMMANDS]
                contenders = stacks(workload, programs, nginx, trusted, databases, scale)
                contenders |= commands(workload, [n for n in workload.stacks if n in COMMANDS], nginx, databases, scale)
                results.measured[workload.name] = run_rounds(workload.name, contenders, rounds, folder)
    return results


def measure_m(scale: float) -> Results:
    """Measure M, with one process and with two."""
    results = _begun(scale)
    with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        folder = Path(name)
        origin = folder / "origin"
        origin.mkdir()
        with Databases(folder, SERVER, 0) as databases, secure_origin(HOSTS, origin) as (nginx, _):
            measure_million(results, nginx, databases, scale, folder)
    return results


def _begun(scale: float) -> Results:
    allow_many_files()
    machine = describe_machine()
    if float(machine["Load before"]) > _BUSY:
        print(f"The machine is busy (load {machine['Load before']}): figures will be off.", file=sys.stderr)
    return Results(time.strftime("%Y-%m-%d"), scale, machine, describe_versions(SERVER))


def publish(results: Results, million: Results | None, folder: Path) -> None:
    """Write the page and its chart into a folder."""
    folder.mkdir(exist_ok=True)
    chart.draw(results, folder / "benchmarks.png")
    (folder / "benchmarks.md").write_text(page.render(results, million, "benchmarks.png"))


def main(names: Sequence[str], only: Sequence[str], scale: float, rounds: int, folder: Path | None) -> int:
    """Do what is named of ``peers``, ``million`` and ``page``; print, keep, and write the page.

    What is no full measurement is not kept, and the page is written of it only where a folder is given. Returns 1 where
    a goal is missed, 2 where nothing can be done.
    """
    whole = scale == 1 and not only
    target = folder or (ROOT / "docs" if whole else None)
    if problem := _problem(names, target):
        print(problem, file=sys.stderr)
        return 2
    began = time.monotonic()
    peers = measure_peers(only, scale, rounds) if "peers" in names else None
    million = measure_m(scale) if "million" in names else None
    if whole:
        peers, million = _kept(peers, PEERS), _kept(million, MILLION)
    say("")
    if "million" not in names or "peers" in names:
        print(page.terminal_rates(peers or Results()), end="\n\n")
    found = [row for row in rows(peers or Results(), million) if row.values]
    print(page.terminal_table(found))
    if target is not None and peers is not None and find_spec("matplotlib"):
        publish(peers, million, target)
        print(f"\n{target / 'benchmarks.md'} is written, after {(time.monotonic() - began) / 60:.0f} minutes.")
    return int(any(row.verdict not in ("reached", "") for row in found))


def _problem(names: Sequence[str], target: Path | None) -> str:
    if "page" in names and "peers" not in names and not PEERS.exists():
        return "Nothing was measured yet; make bench measures and writes the page."
    if target is not None and set(names) != {"million"} and not find_spec("matplotlib"):
        return "matplotlib, which draws the chart, is not installed; make bench installs it."
    return ""


def _kept(results: Results | None, path: Path) -> Results | None:
    """Keep what was measured, or return what was kept before."""
    if results is None:
        return Results.read(path)
    results.write(path)
    return results
