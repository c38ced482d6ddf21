"""(b) 1,000 small URLs fetched and saved, beside a stock httpx.AsyncClient as concurrent that saves nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.figures import ROUNDS, Figure
from tests.benchmarks.origins import FAST, benchmark_origin
from tests.benchmarks.project import ROOT, environment, migrate

COUNT = 1_000
CONCURRENCY = 100

# Each side times itself in a process of its own, after its imports: neither pays for the other's garbage.
_STOCK = """
import asyncio, sys, time, httpx
urls = open(sys.argv[1]).read().split()
async def main():
    gate = asyncio.Semaphore({concurrency})
    limits = httpx.Limits(max_connections={concurrency}, max_keepalive_connections={concurrency})
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
        async def get(url):
            async with gate:
                (await client.get(url)).raise_for_status()
        await asyncio.gather(*map(get, urls))
began = time.perf_counter()
asyncio.run(main())
print(time.perf_counter() - began)
"""
_TRAWL = """
import asyncio, sys, time, django
django.setup()
from fetcher.conf import fetch_config
from fetcher.listener import Listener
from fetcher.service import fetch_list
from fetcher.sources import open_lines
listener = Listener()
config = fetch_config({{"concurrency": {concurrency}, "per_host": {concurrency}}})
began = time.perf_counter()
state = asyncio.run(fetch_list(open_lines(sys.argv[1]), config, listener=listener))
print(time.perf_counter() - began)
assert state == "completed" and listener.progress.statuses["succeeded"] == {count}, listener.progress
"""


def measure() -> list[Figure]:
    """Return the rates of both and their ratio, at one host and at ten."""
    figures = []
    for hosts in (1, 10):
        with benchmark_origin(hosts) as nginx, tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
            directory = Path(name)
            stock, trawl = [], []
            for number in range(ROUNDS):
                # New URLs each round, so that none is known and none is answered from an earlier one.
                listing = directory / f"urls-{number}.txt"
                listing.write_text("\n".join(nginx.urls(f"{FAST}/{number}", COUNT)))
                migrate(directory)
                stock.append(_seconds(_STOCK, listing, directory))
                trawl.append(_seconds(_TRAWL, listing, directory))
            ratio = statistics.median(a / b for a, b in zip(stock, trawl, strict=True))
            where = f"{COUNT} x 1 KB, {CONCURRENCY} at once, {hosts} host{'s' if hosts > 1 else ''}"
            figures += [
                Figure(f"{where}: stock httpx, saving nothing", COUNT / statistics.median(stock), "/s"),
                Figure(f"{where}: Trawl, saved", COUNT / statistics.median(trawl), "/s"),
                Figure(f"{where}: Trawl / stock httpx", ratio, "x", 1),
            ]
    return figures


def _seconds(program: str, listing: Path, directory: Path) -> float:
    code = program.format(concurrency=CONCURRENCY, count=COUNT)
    variables = environment({"DATABASE_URL": f"sqlite:///{directory}/db.sqlite3", "MEDIA_ROOT": str(directory)})
    done = subprocess.run(
        [sys.executable, "-c", code, str(listing)], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)
