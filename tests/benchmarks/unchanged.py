"""(g) URLs with an ETag fetched again: what an unchanged result adds to the database."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.origins import benchmark_origin
from tests.benchmarks.project import fetch_urls, migrate

COUNT = 10_000
TAGGED = "/etag"


def measure() -> list[Figure]:
    """Return the bytes for each unchanged result, from the size of the file after the first and the second run."""
    with benchmark_origin() as nginx, tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        directory = Path(name)
        listing = directory / "urls.txt"
        listing.write_text("\n".join(nginx.urls(TAGGED, COUNT)))
        migrate(directory)
        sizes = []
        for _ in range(2):
            fetch_urls(directory, ["--file", str(listing), "--per-host", "100"])
            sizes.append(_size(directory / "db.sqlite3"))
        unchanged = _unchanged(directory / "db.sqlite3")
        assert unchanged == COUNT, f"{unchanged} of {COUNT} were not modified"
    return [
        Figure(
            f"{COUNT:,} unchanged URLs: bytes of database for each", (sizes[1] - sizes[0]) / COUNT, "", 150, "at most"
        )
    ]


def _size(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")  # else free pages of the first run hide what the second one takes
    connection.close()
    return database.stat().st_size


def _unchanged(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM fetcher_result WHERE status = 'not_modified'").fetchone()
    connection.close()
    return int(count)
