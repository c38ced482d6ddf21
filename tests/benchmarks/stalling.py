"""(s) Good hosts among hosts that never answer and hosts whose answers never end, by the engine alone.

1,000 good URLs on 20 hosts, in one shuffled list with those of 100 silent and 100 endless hosts, against the same good
URLs alone. The good answers take 100 ms each, so that slots are what is measured and not the processor. Timeouts are a
third of the defaults, to have an end of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from fetcher.engine.config import FetchConfig
from fetcher.engine.runner import Meter, fetch_all
from fetcher.engine.types import Status
from tests.benchmarks.fanout import LOOPBACK, targets
from tests.benchmarks.figures import Figure

GOOD_URLS, GOOD_HOSTS, BAD_HOSTS, BAD_URLS = 1_000, 20, 100, 5
"""How many good URLs on how many hosts; how many hosts of either bad sort, and URLs on each of them."""
LASTING_URLS = 16_000
"""Good URLs that last beyond every bad host's first timeout."""
ANSWER_SECONDS = 0.1
DRIP_SECONDS = 0.5
READ_TIMEOUT, DEADLINE = 10.0, 20.0
_GOOD, _SILENT, _ENDLESS = 1, 2, 3
"""The third number of the addresses 127.0.x.y of each sort of host."""


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sort = int(writer.get_extra_info("sockname")[0].split(".")[2])
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            if sort == _SILENT:
                await reader.read()
                break
            if sort == _ENDLESS:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(DRIP_SECONDS)
            await asyncio.sleep(ANSWER_SECONDS)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
    writer.close()


async def serve() -> None:
    """Print the port and answer until killed, on every loopback address."""
    server = await asyncio.start_server(_serve, "0.0.0.0", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def _origin() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.stalling"], stdout=subprocess.PIPE, text=True
    ) as run:
        try:
            assert run.stdout is not None
            yield int(run.stdout.readline())
        finally:
            run.kill()


def _urls(port: int, sort: int, hosts: int, count: int) -> list[str]:
    return [f"http://127.0.{sort}.{1 + number % hosts}:{port}/{number}" for number in range(count)]


async def _fetched(urls: Sequence[str], good: int) -> tuple[list[float], float, int]:
    """Fetch until so many good URLs have their outcomes.

    Returns when each of these came, in seconds, when the first attempt of a bad host had timed out (0 where none had
    until the end), and how many good URLs failed.
    """
    config = FetchConfig(allowed_networks=LOOPBACK, read_timeout=READ_TIMEOUT, deadline=DEADLINE)
    meter, times, failed = Meter(), [], 0
    first_timeout = 0.0
    began = time.perf_counter()
    async with contextlib.aclosing(fetch_all(targets(urls), config, meter=meter)) as outcomes:  # type: ignore[type-var]
        async for outcome in outcomes:
            now = time.perf_counter() - began
            if meter.retries and not first_timeout:
                first_timeout = now
            if outcome.target.host.startswith(f"127.0.{_GOOD}."):
                times.append(now)
                failed += outcome.status is not Status.SUCCEEDED
                if len(times) == good:
                    break
    return times, first_timeout, failed


def _rate(times: Sequence[float], since: float) -> float:
    """Return URLs per second from ``since`` until the last came."""
    later = [moment for moment in times if moment > since]
    return len(later) / (later[-1] - since) if later else 0.0


def measure() -> list[Figure]:
    """Return the good hosts' throughput among bad ones by that of the same URLs alone, and how many of them failed."""
    with _origin() as port:
        good = _urls(port, _GOOD, GOOD_HOSTS, GOOD_URLS)
        bad = [url for sort in (_SILENT, _ENDLESS) for url in _urls(port, sort, BAD_HOSTS, BAD_HOSTS * BAD_URLS)]
        mixed = [*good, *bad]
        random.Random(7).shuffle(mixed)
        asyncio.run(_fetched(good[:50], 50))  # imports and warms up
        clean, _, _ = asyncio.run(_fetched(good, GOOD_URLS))
        alone = _rate(clean, 0.0)
        among, _, among_failed = asyncio.run(_fetched(mixed, GOOD_URLS))
        lasting = [*_urls(port, _GOOD, GOOD_HOSTS, LASTING_URLS), *bad]
        random.Random(7).shuffle(lasting)
        longer, _, longer_failed = asyncio.run(_fetched(lasting, LASTING_URLS))
        behind, timeout, behind_failed = asyncio.run(_fetched([*bad, *good], GOOD_URLS))
    before = sum(moment < READ_TIMEOUT for moment in among)
    return [
        Figure("good URLs among 200 bad hosts: fetched before the first timeout", before, "", 0.9 * GOOD_URLS),
        Figure("until then / the same alone", _rate(among[:before], 0.0) / alone, "x"),
        Figure("good URLs behind 200 bad hosts, after the first timeout: until the first", behind[0] - timeout, " s"),
        Figure("from then on / the same alone", _rate(behind, behind[0]) / alone, "x"),
        Figure(
            "16,000 good URLs among them, after the first timeout / alone",
            _rate(longer, READ_TIMEOUT) / alone,
            "x",
            0.8,
        ),
        Figure("good URLs that failed", among_failed + longer_failed + behind_failed, "", 0, "at most"),
    ]


if __name__ == "__main__":
    asyncio.run(serve())
