"""``make bench``: Trawl beside its peers, a table, a chart and a page."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
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
        folder.chmod(0o755)  # nginx' worker comes through it
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
        folder.chmod(0o755)
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
    """Measure ``peers``, ``million`` or both; print, keep, and write the page. Returns 1 where a goal is missed.

    What is no full measurement is printed, and written only where a folder is given.
    """
    began = time.monotonic()
    peers = measure_peers(only, scale, rounds) if "peers" in names else None
    million = measure_m(scale) if "million" in names else None
    whole = scale == 1 and not only
    if whole:
        for results, path in ((peers, PEERS), (million, MILLION)):
            if results is not None:
                results.write(path)
        peers, million = peers or Results.read(PEERS), million or Results.read(MILLION)
    say("")
    shown = peers or Results()
    if peers is not None:
        print(page.terminal_rates(peers), end="\n\n")
    found = [row for row in rows(shown, million) if row.values]
    print(page.terminal_table(found))
    if peers is not None and (whole or folder is not None):
        target = folder or ROOT / "docs"
        publish(peers, million, target)
        print(f"\n{target / 'benchmarks.md'} is written; it took {(time.monotonic() - began) / 60:.0f} minutes.")
    return int(any(row.verdict not in ("reached", "") for row in found))
