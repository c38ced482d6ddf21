"""The origin of the benchmarks: nginx, fast enough that the client is what is measured.

``/1k`` answers at once with 1,024 bytes, ``/own`` with some more that no other URL has, ``/100k`` with 102,400,
``/delay`` after 100 ms (a client with concurrency C can do at most 10 * C requests a second). Ten hosts, so that a
limit on one host is not what is measured.

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
OWN = "/own"
LARGE = "/100k"
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


@contextlib.contextmanager
def secure_origin(hosts: int, folder: Path) -> Iterator[tuple[Nginx, Path]]:
    """Run the same, kept to one core, with TLS beside it; gives the file of the authority to trust as well."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert(*[f"127.0.0.{number}" for number in range(1, hosts + 1)])
    trusted, certificate, key = (folder / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    authority.cert_pem.write_to_path(trusted)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    with contextlib.ExitStack() as stack:
        with started_on(ORIGIN_CORE):
            nginx = stack.enter_context(running_nginx(folder, addresses=hosts, certificate=(certificate, key)))
        yield nginx, trusted


ORIGIN_CORE, CLIENT_CORE = 0, 1
"""Ordinals among the cores that this process may use."""


@contextlib.contextmanager
def started_on(ordinal: int) -> Iterator[None]:
    """Have what is started inside the block keep to one core; where there is one core only, nothing is kept."""
    if not hasattr(os, "sched_setaffinity") or len(allowed := sorted(os.sched_getaffinity(0))) < 2:
        yield
        return
    os.sched_setaffinity(0, {allowed[ordinal]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def main(arguments: list[str]) -> None:
    """Print URLs, then serve until interrupted."""
    count, path = int(arguments[0]) if arguments else HOSTS, arguments[1] if len(arguments) > 1 else FAST
    with benchmark_origin() as nginx:
        print("\n".join(nginx.urls(path, count)), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
