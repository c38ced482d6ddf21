"""The origin of the benchmarks: nginx, fast enough that the client is what is measured.

``/1k`` answers at once with 1,024 bytes, ``/delay`` after 100 ms (a client with concurrency C can do at most 10 * C
requests a second). Ten hosts, so that a limit on one host is not what is measured.

By hand: ``python -m tests.benchmarks.origins 100000 > urls.txt`` writes so many URLs and serves until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.nginx import Nginx, running_nginx

HOSTS = 10
FAST = "/1k"
DELAYED = "/delay"
DELAY = 0.1
"""Seconds that ``/delay`` waits before it answers."""


@contextlib.contextmanager
def benchmark_origin(hosts: int = HOSTS) -> Iterator[Nginx]:
    """Run nginx with one process on that many loopback addresses until the block ends.

    Raises NginxMissing, and DidNotStart. ``url``, ``urls``, ``netlocs`` and ``accepted`` of what it gives make the
    lists and count the connections.
    """
    with (
        tempfile.TemporaryDirectory(prefix="trawl-benchmark-") as directory,
        running_nginx(Path(directory), addresses=hosts) as nginx,
    ):
        yield nginx


def pin(cores: set[int]) -> None:
    """Keep this process on these cores, so that the client and the origin do not take turns on one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores & os.sched_getaffinity(0) or os.sched_getaffinity(0))


def main(arguments: list[str]) -> None:
    """Print URLs, then serve until interrupted."""
    count, path = int(arguments[0]) if arguments else HOSTS, arguments[1] if len(arguments) > 1 else FAST
    with benchmark_origin() as nginx:
        print("\n".join(nginx.urls(path, count)), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
