"""(e) A page of a run's results at row 1 and at row 1,000,000: it must cost the same wherever it lies.

``python -m tests.benchmarks.pages --explain`` prints the plan of each list's statements at that size. On SQLite in a
file of its own; ``DATABASE_URL`` may name an empty, migrated PostgreSQL database instead, which it fills for good.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.figures import Figure, seconds
from tests.benchmarks.project import ROOT, environment, migrate

RESULTS = 1_000_000
ROUNDS = 15


def measure() -> list[Figure]:
    """Return the ratio of the last page to the first for each filter that finds something."""
    with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        ratios = json.loads(_in_project(Path(name)))
    return [
        Figure(f"{RESULTS:,} results, {filters}: the last page / the first", ratio, "x", 1.5, "at most")
        for filters, ratio in ratios.items()
    ]


def _in_project(directory: Path, *arguments: str) -> str:
    variables = {**os.environ, **environment({"MEDIA_ROOT": str(directory)})}
    if "DATABASE_URL" not in os.environ:
        variables["DATABASE_URL"] = f"sqlite:///{directory}/db.sqlite3"
        migrate(directory)
    command = [sys.executable, "-m", "tests.benchmarks.pages", "--filled", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout


def _measure_filled() -> dict[str, float]:
    from tests.support.plans import FILTERS, edges, results_page
    from tests.support.synthetic import fill

    filled = fill(runs=1, results=RESULTS)
    first, last = edges(filled.runs[0])
    ratios = {}
    for name in ("all", "status=succeeded", "status=failed", "error_kind=timeout", "http_status=200", "changed=1"):
        read = [results_page(filled.runs[0], FILTERS[name], after) for after in (first - 1, last - 4096)]
        ratios[name] = _ratio(*read)
    return ratios


def _ratio(first: Callable[[], object], last: Callable[[], object]) -> float:
    first(), last()
    return statistics.median(1 / (seconds(first) / seconds(last)) for _ in range(ROUNDS))


def _explain() -> None:
    from tests.support.plans import plans_of, reads
    from tests.support.synthetic import fill

    for name, read in reads(fill(runs=2, results=RESULTS // 2)):
        print(f"\n== {name}")
        for plan in plans_of(read):
            print(f"{plan.sql[:200]}{' …' if len(plan.sql) > 200 else ''}\n    " + plan.text.replace("\n", "\n    "))
            for fault in plan.faults:
                print(f"  FAULT: {fault}")


def main(arguments: list[str]) -> None:
    """Run one of the two jobs, in this process where the database is ready."""
    if "--filled" not in arguments:
        with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
            print(_in_project(Path(name), *arguments))
        return
    import django

    django.setup()
    if "--explain" in arguments:
        _explain()
    else:
        print(json.dumps(_measure_filled()))


if __name__ == "__main__":
    main(sys.argv[1:])
