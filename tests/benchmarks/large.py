"""Peak memory of ``fetch_urls`` over large files, held in memory and spilled: ``python -m tests.benchmarks.large``.

40 files of 50 MiB, 20 in flight, by default; other numbers are the first three arguments. Half of each file is noise,
as an archive is, and half text. They lie on the disk of the temporary folder, and nginx sends them.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.project import fetch_urls, migrate
from tests.support.nginx import running_nginx

THRESHOLDS = {"in memory": "1000GiB", "spilled": "1MiB"}
_MIB = 2**20


def main(arguments: list[str]) -> None:
    """Measure both ways and print a line for each."""
    count, size, concurrency = map(int, arguments or ("40", "50", "20"))
    with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as name:
        served = Path(name)
        with running_nginx(served, addresses=1) as nginx:
            for number in range(count):
                _write(served / f"{number}.bin", size, number)
            urls = [nginx.url(f"/files/{number}.bin") for number in range(count)]
            for shown, threshold in THRESHOLDS.items():
                os.environ["FETCHER_SPILL_THRESHOLD"] = threshold
                with tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as folder:
                    listing = Path(folder) / "urls.txt"
                    listing.write_text("\n".join(urls))
                    migrate(Path(folder))
                    began = time.monotonic()
                    options = ("--concurrency", str(concurrency), "--per-host", str(concurrency))
                    peak = fetch_urls(Path(folder), ["--file", str(listing), *options, "--max-body", f"{2 * size}MiB"])
                    seconds = time.monotonic() - began
                print(f"{shown:10} {count} x {size} MiB: peak {peak / _MIB:,.0f} MiB, {seconds:.1f} s", flush=True)


def _write(path: Path, size: int, seed: int) -> None:
    noise = random.Random(seed)
    text = b"".join(b"%d %d\n" % (seed, number) for number in range(100_000))[:_MIB]
    with path.open("wb") as file:
        for number in range(size):
            file.write(noise.randbytes(_MIB) if number % 2 else text)


if __name__ == "__main__":
    main(sys.argv[1:])
