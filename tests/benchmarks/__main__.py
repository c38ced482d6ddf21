"""What is measured: Trawl beside its peers (``make bench``), and parts of Trawl by themselves (``make bench-parts``).

Every ratio is taken within one run of this program. Absolute figures drift with the machine; goals are ratios.
Origin: nginx on loopback (``origins.py``). A part can be named::

    python -m tests.benchmarks fanout memory                    these parts
    python -m tests.benchmarks parts                            all of them
    python -m tests.benchmarks peers                            the peers: table, docs/benchmarks.md and its chart
    python -m tests.benchmarks peers --scale 0.1 --only A,S     a quick look at two workloads, only printed
    python -m tests.benchmarks million                          a million URLs, with one process and with two
    python -m tests.benchmarks page                             the page again, from what was measured last
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import cluster, fanout, memory, pages, planning, polling, saving, stalling, unchanged, workers
from tests.benchmarks.figures import Figure
from tests.benchmarks.peers import measure
from tests.benchmarks.peers.workloads import WORKLOADS
from tests.support.nginx import NginxMissing
from tests.support.processes import DidNotStart

PARTS: dict[str, Callable[[], list[Figure]]] = {
    "fanout": fanout.measure,
    "saving": saving.measure,
    "memory": memory.measure,
    "pages": pages.measure,
    "planning": planning.measure,
    "unchanged": unchanged.measure,
    "workers": workers.measure,
    "cluster": cluster.measure,
    "polling": polling.measure,
    "stalling": stalling.measure,
}
COMPARED = ("peers", "million", "page")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is named and print it; 1 where a goal is missed, 2 where nothing can be measured."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        return _measure(asked)
    except (NginxMissing, DidNotStart) as exc:
        print(exc, file=sys.stderr)
        return 2


def _leave(number: int, frame: object) -> None:
    """Leave through every block, so that no server, process or database is left behind."""
    sys.exit(128 + number)


def _measure(asked: argparse.Namespace) -> int:
    code = 0
    if compared := [name for name in asked.names if name in COMPARED]:
        code = measure.main(compared, asked.only, asked.scale, asked.rounds, asked.page)
    parts = [name for name in asked.names if name in PARTS]
    if "parts" in asked.names:
        parts = list(PARTS)
    return max(code, measure_parts(parts)) if parts else code


def measure_parts(names: Sequence[str]) -> int:
    """Run the parts and print a row for each figure; 1 where a goal is missed."""
    missed = False
    print(f"{'figure':<64} {'measured':>10}  goal")
    for name in names:
        for figure in PARTS[name]():
            print(figure.row(), flush=True)
            missed |= not figure.reached
    return int(missed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure, and print ratios.")
    names = [*COMPARED, "parts", *PARTS]
    parser.add_argument("names", nargs="+", metavar="PART", choices=names, help=f"one or more of {', '.join(names)}")
    parser.add_argument("--only", type=_workloads, default=[], metavar="A,B", help="these workloads of the peers only")
    parser.add_argument("--scale", type=_scale, default=1.0, metavar="X", help="so much of the sizes (1)")
    parser.add_argument("--rounds", type=int, choices=range(1, 100), default=3, metavar="N", help="rounds (3)")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write page and chart there, whatever was measured")
    return parser


def _workloads(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(WORKLOADS)):
        known = ", ".join(WORKLOADS)
        raise argparse.ArgumentTypeError(f"there is no workload {', '.join(unknown)}; choose from {known}")
    return names


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1, not {text!r}")
    return scale


if __name__ == "__main__":
    sys.exit(main())
