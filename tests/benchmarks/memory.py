"""(c) Peak memory of ``fetch_urls`` at 10,000 and at 100,000 URLs: it must not grow with the list."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.origins import FAST, benchmark_origin
from tests.benchmarks.project import fetch_urls, migrate

SMALL, LARGE = 10_000, 100_000


def measure() -> list[Figure]:
    """Return both peaks and their ratio."""
    peaks = {}
    with benchmark_origin() as nginx:
        for count in (SMALL, LARGE):
            with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
                directory = Path(name)
                listing = directory / "urls.txt"
                listing.write_text("\n".join(nginx.urls(FAST, count)))
                migrate(directory)
                peaks[count] = fetch_urls(directory, ["--file", str(listing), "--per-host", "100"])
    return [
        Figure(f"peak memory at {SMALL:,} URLs", peaks[SMALL] / 2**20, " MiB"),
        Figure(f"peak memory at {LARGE:,} URLs", peaks[LARGE] / 2**20, " MiB"),
        Figure("the second / the first", peaks[LARGE] / peaks[SMALL], "x", 1.3, "at most"),
    ]
