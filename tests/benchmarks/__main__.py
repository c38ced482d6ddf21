"""``make bench``: what concurrency gains, beside stock httpx, and whether memory grows with the list.

Every ratio is taken within one run of this program. Absolute figures drift with the machine; goals are ratios.
Origin: nginx on loopback (``origins.py``). A part can be named: ``python -m tests.benchmarks fanout memory``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import cluster, fanout, memory, pages, planning, polling, saving, unchanged, workers
from tests.benchmarks.figures import Figure

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
}


def main(names: list[str]) -> int:
    """Run the parts and print a row for each figure; 1 where a goal is missed."""
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        print(f"there is no part {', '.join(unknown)}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    missed = False
    print(f"{'figure':<64} {'measured':>10}  goal")
    for name in names or PARTS:
        for figure in PARTS[name]():
            print(figure.row(), flush=True)
            missed |= not figure.reached
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
