"""``python -m tests.benchmarks.stacks NAME JOB.json``: one stack does one job and prints its report as JSON.

Each is a process of its own, so that time, CPU and memory are its own. Exit code 3: it cannot be measured here, and
the line says why.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path

from tests.benchmarks.stacks.measuring import Job, Stack, Unavailable, Watch, allow_many_files

UNAVAILABLE = 3

STACKS = {
    "transport": "trawl:transport",
    "transport-httpx": "trawl:transport_on_httpx",
    "engine": "trawl:engine",
    "httpx": "clients:stock_httpx",
    "aiohttp": "clients:plain_aiohttp",
    "aiohttp-uvloop": "clients:uvloop_aiohttp",
    "curl": "curls:curl",
    "pycurl": "curls:raw_pycurl",
    "requests": "clients:requests_loop",
    "scrapy": "spider:scrapy_only",
    "saved": "pipeline:planned_before",
    "planned-saved": "pipeline:planned_beside",
    "aiohttp-saved": "clients:saving_aiohttp",
    "scrapy-saved": "spider:scrapy_saving",
}
"""Names to ``module:function`` here; imported only when it is run, so that no stack pays for another's packages."""


def find_stack(name: str) -> Stack:
    """Import a stack. Raises ModuleNotFoundError where a package of it is not installed; so may the stack."""
    module, _, function = STACKS[name].partition(":")
    found: Stack = getattr(importlib.import_module(f"tests.benchmarks.stacks.{module}"), function)
    return found


def main(arguments: list[str]) -> int:
    """Run one stack; return the exit code."""
    name, job = arguments
    allow_many_files()
    try:
        report = find_stack(name)(Job.read(Path(job)), Watch())
    except ModuleNotFoundError as exc:
        print(f"{exc.name} is not installed (make bench installs it)")
        return UNAVAILABLE
    except Unavailable as exc:
        print(exc)
        return UNAVAILABLE
    print(json.dumps(dataclasses.asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
