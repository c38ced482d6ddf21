"""(f) Planning a million plain lines: how soon the first request goes out, what a line costs, what memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.project import ROOT, environment, migrate

SMALL, LARGE = 100_000, 1_000_000
HOSTS = 1_000

# The command's own way of planning, with the engine beside it that would fetch; here it only notes when it could begin.
_PLAN = """
import asyncio, json, resource, sys, time
import django
django.setup()
from fetcher.conf import fetch_config
from fetcher.reading import BufferedReader
from fetcher.sources import open_lines
from fetcher.store import runs
from fetcher.store.plan import Planner
from fetcher.writer import Writer

def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

async def main():
    began, used = time.perf_counter(), cpu()
    async with Writer() as writer:
        planner = Planner(await writer(runs.create_run, fetch_config()))
        reader = BufferedReader(open_lines(sys.argv[1]))
        async for batch in reader.batches():
            await writer(planner.add, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"accepted": planner.accepted, "cpu": cpu() - used, "seconds": time.perf_counter() - began,
                      "peak": peak}))

asyncio.run(main())
"""
# One request is let through to a transport that answers nothing: the moment it is asked is the figure.
_FIRST = """
import asyncio, sys, time
began = time.perf_counter()
import django
django.setup()
import httpx
from fetcher.conf import fetch_config
from fetcher.service import fetch_list
from fetcher.sources import open_lines

class First(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        print(time.perf_counter() - began, flush=True)
        import os
        os._exit(0)

asyncio.run(fetch_list(open_lines(sys.argv[1]), fetch_config(), transport=First()))
"""


def measure() -> list[Figure]:
    """Return the figures of the issue's goals."""
    with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        directory = Path(name)
        found = {}
        for count in (SMALL, LARGE):
            listing = directory / f"{count}.txt"
            with listing.open("w") as file:
                file.writelines(f"https://host{n % HOSTS}.example.org/articles/{n}?page=1\n" for n in range(count))
            found[count] = json.loads(_run(_PLAN, directory / str(count), listing))
            assert found[count]["accepted"] == count
        first = float(_run(_FIRST, directory / "first", listing))
    return [
        Figure(f"{LARGE:,} lines: seconds to the first request, start-up included", first, " s", 3, "at most"),
        Figure(f"{LARGE:,} lines: CPU for each", found[LARGE]["cpu"] / LARGE * 1e6, " µs", 40, "at most"),
        Figure(f"{LARGE:,} lines: planned in", found[LARGE]["seconds"], " s"),
        Figure(f"peak memory at {LARGE:,} lines", found[LARGE]["peak"] / 1024, " MiB"),
        Figure(f"the same / that at {SMALL:,} lines", found[LARGE]["peak"] / found[SMALL]["peak"], "x", 1.3, "at most"),
    ]


def _run(code: str, directory: Path, listing: Path) -> str:
    directory.mkdir()
    migrate(directory)
    variables = environment({"DATABASE_URL": f"sqlite:///{directory}/db.sqlite3", "MEDIA_ROOT": str(directory)})
    done = subprocess.run(
        [sys.executable, "-c", code, str(listing)], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
