"""Trawl without its database: the transport called directly, and the engine above it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import httpx

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.runner import fetch_all
from fetcher.engine.transport import ConnectionOptions, PreparedRequest, open_transport
from fetcher.engine.types import Status, Target
from fetcher.engine.urls import parse_url
from tests.benchmarks.stacks.measuring import Job, Report, Unavailable, Watch

_LOOPBACK = (AllowedNetwork.parse("127.0.0.0/8"),)


def _config(job: Job) -> FetchConfig:
    """Return a configuration without a limit for each host."""
    return FetchConfig(concurrency=job.in_flight, per_host=job.in_flight, allowed_networks=_LOOPBACK)


def _open(job: Job, config: FetchConfig, **wanted: str) -> httpx.AsyncBaseTransport:
    """Open the transport with these options beside the job's authority. Raises Unavailable where it cannot be had."""
    try:
        return open_transport(config, ConnectionOptions(ca_file=job.ca_file or "", **wanted))
    except ConfigError as exc:
        raise Unavailable(f"{exc.name} {exc}") from None


def _requests(config: FetchConfig) -> Callable[[str], httpx.Request]:
    """Return what makes a GET request, as the engine makes them."""
    headers = ((b"User-Agent", config.user_agent.encode()), (b"Accept", b"*/*"))
    extensions = {"timeout": {"connect": config.connect_timeout, "read": config.read_timeout}}
    return lambda url: PreparedRequest("GET", parse_url(url), headers, None, extensions)


def transport(job: Job, watch: Watch) -> Report:
    """``httpx.Request`` in, the raw body read: so many coroutines take from one iterator."""
    return asyncio.run(_transport(job, watch))


def transport_on_httpx(job: Job, watch: Watch) -> Report:
    """The same with the transport that needs no libcurl."""
    return asyncio.run(_transport(job, watch, transport="httpx"))


async def _transport(job: Job, watch: Watch, **wanted: str) -> Report:
    config = _config(job)
    request = _requests(config)
    urls = iter(job.urls())
    answers = size = 0
    opened = _open(job, config, **wanted)

    async def take() -> None:
        nonlocal answers, size
        for url in urls:
            response = await opened.handle_async_request(request(url))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                size += len(chunk)
            await response.aclose()
            answers += response.status_code == 200

    try:
        watch.begin()
        await asyncio.gather(*[take() for _ in range(job.in_flight)])
        return watch.end(answers, size)
    finally:
        await opened.aclose()


def engine(job: Job, watch: Watch) -> Report:
    """``fetch_all``: with retries, limits and decoding, saving nothing."""
    return asyncio.run(_engine(job, watch))


async def _engine(job: Job, watch: Watch) -> Report:
    config, urls = _config(job), job.urls()
    answers = size = 0
    opened = _open(job, config)
    try:
        watch.begin()
        async for outcome in fetch_all(_targets(urls), config, transport=opened):
            answers += outcome.status is Status.SUCCEEDED
            size += len(outcome.body or b"")
        return watch.end(answers, size)
    finally:
        await opened.aclose()


def _targets(urls: list[str]) -> Iterator[Target]:
    for text in urls:
        url = parse_url(text)
        yield Target(url.href, url.host)
