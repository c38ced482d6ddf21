"""Python clients as their users write them: httpx, aiohttp, requests."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from tests.benchmarks.stacks.measuring import Job, Report, Watch
from tests.benchmarks.stacks.writer import RawWriter, Row

Fetch = Callable[[str], Awaitable[int]]
"""Fetches one URL and returns the size of its body; raises where the answer is not 200."""


async def _share(urls: Sequence[str], in_flight: int, fetch: Fetch) -> tuple[int, int]:
    """Have so many coroutines take from one iterator; return the answers and their bytes."""
    sizes: list[int] = []

    async def take(left: Iterator[str]) -> None:
        for url in left:
            sizes.append(await fetch(url))  # noqa: PERF401  (as the answers come)

    left = iter(urls)
    await asyncio.gather(*[take(left) for _ in range(in_flight)])
    return len(sizes), sum(sizes)


def _trusting(job: Job) -> ssl.SSLContext | None:
    return None if job.ca_file is None else ssl.create_default_context(cafile=job.ca_file)


def stock_httpx(job: Job, watch: Watch) -> Report:
    """``httpx.AsyncClient`` with a pool of as many connections as are in flight."""
    import httpx

    async def main() -> Report:
        urls = job.urls()
        limits = httpx.Limits(max_connections=job.in_flight, max_keepalive_connections=job.in_flight)
        verify = _trusting(job) or True
        async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits, verify=verify) as client:

            async def fetch(url: str) -> int:
                response = await client.get(url)
                response.raise_for_status()
                return len(response.content)

            watch.begin()
            return watch.end(*await _share(urls, job.in_flight, fetch))

    return asyncio.run(main())


def plain_aiohttp(job: Job, watch: Watch) -> Report:
    """``aiohttp`` on asyncio's own loop."""
    return asyncio.run(_aiohttp(job, watch))


def uvloop_aiohttp(job: Job, watch: Watch) -> Report:
    """``aiohttp`` on uvloop."""
    return _on_uvloop(_aiohttp(job, watch))


def saving_aiohttp(job: Job, watch: Watch) -> Report:
    """``aiohttp`` on uvloop; a thread writes rows and compressed bodies to SQLite, batch by batch."""
    return _on_uvloop(_saving_aiohttp(job, watch))


def _on_uvloop(main: Coroutine[Any, Any, Report]) -> Report:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _aiohttp_session(job: Job) -> Any:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=job.in_flight, ssl=_trusting(job) or True)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), raise_for_status=True)


async def _aiohttp(job: Job, watch: Watch) -> Report:
    urls = job.urls()
    async with _aiohttp_session(job) as session:

        async def fetch(url: str) -> int:
            async with session.get(url) as response:
                return len(await response.read())

        watch.begin()
        return watch.end(*await _share(urls, job.in_flight, fetch))


async def _saving_aiohttp(job: Job, watch: Watch) -> Report:
    urls = job.urls()
    async with _aiohttp_session(job) as session:
        watch.begin()
        with RawWriter(job.directory) as writer:

            async def fetch(url: str) -> int:
                started, began = time.time(), time.perf_counter()
                async with session.get(url) as response:
                    body = await response.read()
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
                elapsed = time.perf_counter() - began
                writer.add(Row(url, response.url.host or "", response.status, headers, body, started, elapsed))
                return len(body)

            answers, size = await _share(urls, job.in_flight, fetch)
        return watch.end(answers, size)


def requests_loop(job: Job, watch: Watch) -> Report:
    """A ``requests.Session``, one URL after the other."""
    import requests

    urls = job.urls()
    with requests.Session() as session:
        session.trust_env = False
        session.verify = job.ca_file or True
        watch.begin()
        size = 0
        for url in urls:
            response = session.get(url, timeout=60)
            response.raise_for_status()
            size += len(response.content)
        return watch.end(len(urls), size)
