"""The servers that other tests run against are up and are what they claim to be."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.nginx import Nginx
from tests.support.processes import REQUIRED, DidNotStart, free_port, running, unavailable

pytestmark = pytest.mark.services


def get(url: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=10) as client:
        return client.get(url)


def port_closes(port: int) -> bool:
    """Whether nobody listens any more; a killed process may need a moment to lose its sockets."""
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("host", [0, 99])
def test_nginx_answers_on_each_of_its_addresses(nginx: Nginx, host: int) -> None:
    assert len(get(nginx.url("/1k/7", host)).content) == 1024


def test_nginx_delays_by_a_tenth_of_a_second(nginx: Nginx) -> None:
    answer = get(nginx.url("/delay"))

    assert (answer.text, answer.elapsed.total_seconds() >= 0.1) == ("delayed\n", True)


def test_nginx_counts_the_connections_that_it_accepted(nginx: Nginx) -> None:
    before = nginx.accepted()
    get(nginx.url("/1k"))

    assert nginx.accepted() - before == 2


def test_nginx_urls_are_distinct_and_spread_over_the_hosts(nginx: Nginx) -> None:
    urls = nginx.urls("/1k", 200)

    assert len(set(urls)) == 200
    assert {httpx.URL(url).netloc.decode() for url in urls} == set(nginx.netlocs)


def test_httpbin_echoes_a_query(httpbin: str) -> None:
    assert get(f"{httpbin}/get?a=1").json()["args"] == {"a": "1"}


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_the_project_is_served(serve_project: Callable[..., str], interface: str, tmp_path: Path) -> None:
    url = serve_project(f"sqlite:///{tmp_path}/db.sqlite3", interface=interface)

    assert get(f"{url}/no-such-path/").status_code == 404


def test_a_server_that_does_not_start_is_reported_with_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such database')"]

    with (
        pytest.raises(DidNotStart, match=r"(?s)ended with 1 .*no such database"),
        running(command, free_port(), tmp_path / "output"),
    ):
        pass


def test_children_of_a_server_end_with_it(tmp_path: Path) -> None:
    port = free_port()
    child = f"import http.server as h; h.test(h.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    with running([sys.executable, "-c", parent], port, tmp_path / "output"):
        pass

    assert port_closes(port)


def test_a_missing_service_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)

    with pytest.raises(pytest.skip.Exception, match="not installed"):
        unavailable("nginx is not installed")


def test_a_missing_service_fails_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "1")

    with pytest.raises(pytest.fail.Exception, match="not installed"):
        unavailable("nginx is not installed")
