"""The main job as a user does it: the command in a process, servers that are not ours, results read back over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fetcher.conf import fetch_config
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.transport import open_transport
from fetcher.listener import Listener
from fetcher.models import Result
from fetcher.service import fetch_list
from fetcher.sources import open_arguments
from tests.support.nginx import Nginx
from tests.support.processes import ROOT


@dataclass(frozen=True)
class Shell:
    """A database of its own, and ``manage.py`` on it."""

    directory: Path

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.directory}/db.sqlite3"

    def manage(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "settings.dev",
                "DATABASE_URL": self.database_url,
                "MEDIA_ROOT": str(self.directory / "media"),
            },
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@dataclass(frozen=True)
class Expected:
    """What a careful person expects of one URL of httpbin."""

    path: str
    status: str = "succeeded"
    http_status: int = 200
    attempts: int = 1
    redirects: int = 0
    size: int | None = None


EXPECTED = (
    Expected("/get?a=1"),
    Expected("/delay/1"),
    Expected("/status/404", status="failed", http_status=404),
    Expected("/status/503", status="failed", http_status=503, attempts=2),
    Expected("/redirect/3", redirects=3),
    Expected("/gzip"),
    Expected("/deflate"),
    Expected("/brotli"),
    Expected("/etag/x"),
    Expected("/stream-bytes/100000", size=100_000),
    Expected("/drip?duration=1&numbytes=10&delay=0", size=10),
    Expected("/bytes/50000", size=50_000),
)
FETCH = ("fetch_urls", "-", "--allow-network", "127.0.0.1", "--max-attempts", "2", "--output", "ndjson")


@pytest.fixture
def fetched(httpbin: str, shell: Shell) -> dict[str, dict[str, Any]]:
    """The results by path, as the command printed them."""
    done = shell.manage(*FETCH, given="".join(f"{httpbin}{expected.path}\n" for expected in EXPECTED))
    assert done.returncode == 3, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["url"].removeprefix(httpbin): line for line in lines}


def test_each_url_of_httpbin_has_the_outcome_that_a_careful_person_expects(fetched: dict[str, dict[str, Any]]) -> None:
    assert {path: (line["status"], line["http_status"], line["attempts"]) for path, line in fetched.items()} == {
        expected.path: (expected.status, expected.http_status, expected.attempts) for expected in EXPECTED
    }


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_what_was_fetched_is_read_back_over_http(
    fetched: dict[str, dict[str, Any]], shell: Shell, serve_project: Callable[..., str], interface: str
) -> None:
    base = serve_project(shell.database_url, interface=interface)
    with httpx.Client(base_url=base, trust_env=False, timeout=10) as client:
        run = client.get("/api/v1/runs/").json()["items"][0]
        assert (run["state"], run["total"], run["succeeded"], run["failed"]) == ("completed", 12, 10, 2)
        listed = client.get(f"/api/v1/runs/{run['id']}/results/").json()["items"]
        assert sorted(listed, key=lambda item: item["id"]) == sorted(fetched.values(), key=lambda item: item["id"])
        for expected in EXPECTED:
            line = fetched[expected.path]
            alone = client.get(f"/api/v1/results/{line['id']}/").json()
            assert len(alone["redirects"]) == expected.redirects
            body = client.get(line["body_url"]).content
            assert expected.size in (None, len(body))
        assert client.get(fetched["/get?a=1"]["body_url"]).json()["args"] == {"a": "1"}
        assert client.get(fetched["/gzip"]["body_url"]).json()["gzipped"] is True
        assert client.get(fetched["/brotli"]["body_url"]).json()["brotli"] is True
        assert client.get(fetched["/deflate"]["body_url"]).json()["deflated"] is True


def test_an_etag_makes_the_second_fetch_a_304_with_the_first_ones_body(httpbin: str, shell: Shell) -> None:
    lines = [json.loads(shell.manage(*FETCH, given=f"{httpbin}/etag/x\n").stdout) for _ in range(2)]
    assert [line["status"] for line in lines] == ["succeeded", "not_modified"]
    assert lines[1]["body_sha256"] == lines[0]["body_sha256"]
    assert lines[1]["changed"] is False


def test_progress_and_messages_go_to_standard_error_and_only_json_to_standard_output(
    nginx: Nginx, shell: Shell
) -> None:
    given = f"{nginx.url('/1k/1')}\nno url\n{nginx.url('/1k/2')}\n"
    done = shell.manage("fetch_urls", "-", "--allow-network", "127.0.0.1", "--output", "ndjson", given=given)
    assert done.returncode == 3
    assert sorted(json.loads(line)["position"] for line in done.stdout.splitlines()) == [0, 1]
    assert "stdin:2: rejected: 'no url'" in done.stderr


class Watched(httpx.AsyncBaseTransport):
    """Counts what is in flight, from sending to the end of the body, over all and by host."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self._now: Counter[str] = Counter()
        self.peak = 0
        self.peaks: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.netloc.decode()
        self._now[host] += 1
        self.peak = max(self.peak, self._now.total())
        self.peaks[host] = max(self.peaks[host], self._now[host])
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            self._now[host] -= 1
            raise
        body = response.stream
        assert isinstance(body, httpx.AsyncByteStream)
        response.stream = _Counted(body, lambda: self._now.subtract([host]))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, ended: Callable[[], None]) -> None:
        self._inner = inner
        self._ended = ended

    def __aiter__(self) -> Any:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._ended()


@pytest.mark.django_db(transaction=True)
def test_twenty_thousand_urls_over_a_hundred_hosts_are_all_saved_within_the_limits(nginx: Nginx) -> None:
    allowed = (AllowedNetwork.parse("127.0.0.0/8"),)
    config = fetch_config({"concurrency": 50, "per_host": 2, "allowed_networks": allowed})
    listener = Listener()

    async def fetch() -> Watched:
        transport = Watched(open_transport(config))
        urls = open_arguments(nginx.urls("/1k", 20_000))
        assert await fetch_list(urls, config, listener=listener, transport=transport) == "completed"
        await transport.aclose()
        return transport

    transport = asyncio.run(fetch())
    assert listener.progress.statuses == {"succeeded": 20_000}
    assert Result.objects.filter(run=listener.progress.run, status="succeeded").count() == 20_000
    assert {urlsplit(f"//{host}").hostname for host in transport.peaks} == set(nginx.addresses)
    assert transport.peak <= 50
    assert max(transport.peaks.values()) <= 2
