"""What is fetched, by which stacks, and what the stacks are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.origins import DELAY, DELAYED, LARGE, OWN
from tests.support.nginx import Nginx

HOSTS = 100

TITLES = {
    "transport": "Trawl's transport",
    "transport-httpx": "Trawl's transport on httpx",
    "engine": "Trawl's engine",
    "httpx": "httpx",
    "aiohttp": "aiohttp",
    "aiohttp-uvloop": "aiohttp + uvloop",
    "curl": "curl -Z",
    "pycurl": "pycurl, CurlMulti",
    "requests": "requests, one by one",
    "scrapy": "Scrapy",
    "saved": "Trawl: fetch and save",
    "planned-saved": "Trawl: plan, fetch and save",
    "aiohttp-saved": "aiohttp + uvloop + raw writer",
    "scrapy-saved": "Scrapy + SQLite pipeline",
    "sqlite": "fetch_urls, SQLite",
    "sqlite-million": "fetch_urls, SQLite of a million results",
    "postgres": "fetch_urls, PostgreSQL",
    "postgres-million": "fetch_urls, PostgreSQL of a million results",
    "one": "fetch_urls, one process",
    "two": "fetch_urls --workers 2",
}
OURS = {"transport", "transport-httpx", "engine", "saved", "planned-saved", "sqlite", "sqlite-million", "postgres",
        "postgres-million", "one", "two"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Workload:
    """So many URLs below one path of the origin.

    ``fewer`` has the stacks that are given less, because all of it would take them minutes. ``left_out`` says why a
    peer has no row. ``ideal`` is the most that can be answered in a second.
    """

    name: str
    title: str
    path: str
    count: int
    stacks: Sequence[str]
    hosts: int = 1
    in_flight: int = 100
    secure: bool = False
    saves: bool = False
    fewer: Mapping[str, int] = field(default_factory=dict)
    left_out: str = ""
    ideal: float | None = None

    def urls(self, nginx: Nginx, stack: str, scale: float, mark: str = "") -> list[str]:
        """Return distinct URLs for a stack, at least as many as are in flight; ``mark`` makes them others."""
        origin = nginx.secure if self.secure else nginx
        assert origin is not None
        count = self.fewer.get(stack, self.count)
        wanted = max(min(count, self.in_flight), round(count * scale))
        return [origin.url(f"{self.path}/{mark}{number}", number % self.hosts) for number in range(wanted)]


_FETCHING = (
    "transport",
    "transport-httpx",
    "engine",
    "httpx",
    "aiohttp",
    "aiohttp-uvloop",
    "curl",
    "pycurl",
    "requests",
    "scrapy",
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("A", "5,000 x 1 KB from one host, 100 in flight", OWN, 5_000, _FETCHING, fewer={"httpx": 1_000}),
        Workload(
            "B", "the same from 100 hosts", OWN, 5_000, _FETCHING, hosts=HOSTS, fewer={"httpx": 1_000, "scrapy": 2_000}
        ),
        Workload(
            "C",
            "10,000 that take 100 ms each, 1,000 in flight",
            DELAYED,
            10_000,
            ("transport", "engine", "aiohttp", "aiohttp-uvloop", "pycurl", "requests", "scrapy"),
            hosts=HOSTS,
            in_flight=1_000,
            fewer={"requests": 50, "scrapy": 5_000},
            left_out="curl -Z has at most 300 requests in flight; httpx with 1,000 connections needs minutes.",
            ideal=1_000 / DELAY,
        ),
        Workload("E", "2,000 x 100 KB from one host, 100 in flight", LARGE, 2_000, _FETCHING, fewer={"httpx": 500}),
        Workload(
            "T",
            "A over TLS, connections kept",
            OWN,
            5_000,
            _FETCHING,
            secure=True,
            fewer={"httpx": 1_000, "scrapy": 2_000},
        ),
        Workload(
            "T2",
            "100 hosts x 20 over TLS, 100 in flight",
            OWN,
            2_000,
            _FETCHING,
            hosts=HOSTS,
            secure=True,
            fewer={"httpx": 1_000},
        ),
        Workload(
            "S",
            "A fetched and saved to SQLite",
            OWN,
            5_000,
            ("saved", "planned-saved", "aiohttp-saved", "scrapy-saved", "curl"),
            saves=True,
            left_out="curl -Z merely fetches.",
        ),
        Workload(
            "D",
            "100,000 x 1 KB through `manage.py fetch_urls`",
            OWN,
            100_000,
            ("saved", "sqlite", "sqlite-million", "postgres", "postgres-million"),
            saves=True,
        ),
    )
}
MILLION = Workload("M", "a million x 1 KB from 100 hosts", OWN, 1_000_000, ("one", "two"), hosts=HOSTS, saves=True)
