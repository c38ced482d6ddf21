"""``manage.py serve``: processes that serve, and values that are refused before they do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from fetcher.management.commands.serve import announcement, application, free_endpoint
from tests.rows import make_run
from tests.support.commands import COMMAND, call
from tests.support.processes import ROOT


def environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{directory}/db.sqlite3",
        "DJANGO_SETTINGS_MODULE": "settings.dev",
    }


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a migrated database, which each test copies."""
    directory = tmp_path_factory.mktemp("migrated")
    subprocess.run([*COMMAND, "migrate", "-v0"], cwd=ROOT, env=environment(directory), check=True)
    return directory


@pytest.fixture
def start(migrated: Path, tmp_path: Path) -> Iterator:
    started: list[subprocess.Popen[str]] = []
    for file in migrated.iterdir():
        shutil.copy(file, tmp_path)

    def start(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error::DeprecationWarning:fetcher", "manage.py", "serve", *options],
            cwd=ROOT,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def fetch(url: str) -> bytes:
    """Read a URL of a server whose workers may still be starting."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read()
        except ConnectionError:
            time.sleep(0.05)
        except urllib.error.URLError as exc:
            if not isinstance(exc.reason, ConnectionError):
                raise
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.services
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_stops_cleanly_on_a_signal(start, number):
    process = start("--port", "0")
    lines = [process.stdout.readline() for _ in range(3)]
    base = re.search(r"http://127\.0\.0\.1:\d+", lines[0])[0]
    assert f"{base}/api/v1/runs/" in lines[1]
    assert json.loads(fetch(f"{base}/healthz")) == {"status": "ok"}
    assert json.loads(fetch(f"{base}/api/v1/runs/")) == {"items": [], "next": None}
    assert b"body" in fetch(f"{base}/static/admin/css/base.css")
    os.killpg(process.pid, number)  # as a terminal does: the workers get it too
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


@pytest.mark.services
def test_stops_at_once_while_it_starts(start):
    process = start("--port", "0", "--workers", "2")
    process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port must be between 0 and 65535, not 70000"),
        (["--workers", "0"], "--workers must be at least 1, not 0"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 is no address of this machine. Use 127.0.0.1, or 0.0.0.0"),
        (["--host", "a b"], "--host 'a b' is neither an address nor a known name"),
    ],
)
def test_a_bad_value_is_an_error_without_a_traceback(transactional_db, options, message):
    found = call("serve", *options)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"CommandError: {message}")


@pytest.mark.services
def test_warns_that_other_machines_will_be_refused(start):
    process = start("--host", "0.0.0.0", "--port", "0")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=20)[1]
    assert "requests from other machines will be refused" in err
    assert process.returncode == 0


def test_a_port_in_use_is_an_error_that_says_so(transactional_db):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Port {port} on 127.0.0.1 is in use"):
            call_command("serve", port=port)


class TestFreeEndpoint:
    def test_picks_a_port_for_0(self):
        address, port = free_endpoint("127.0.0.1", 0)
        assert address == "127.0.0.1"
        assert port > 0

    def test_understands_a_name(self):
        assert free_endpoint("localhost", 0)[0] in ("127.0.0.1", "::1")


class TestApplication:
    def test_is_the_settings_asgi_application(self):
        assert application() == "settings.asgi:application"

    @pytest.mark.parametrize("path", [None, "", "settings", "settings.nowhere.application", "settings.asgi.nothing"])
    def test_that_cannot_be_loaded_is_an_error(self, settings, path):
        settings.ASGI_APPLICATION = path
        with pytest.raises(CommandError, match="ASGI_APPLICATION"):
            application()


class TestAnnouncement:
    def test_names_the_runs_and_the_latest_runs_results(self, db):
        make_run()
        newest = make_run()
        lines = "\n".join(announcement("127.0.0.1", 8000))
        assert "http://127.0.0.1:8000/api/v1/runs/" in lines
        assert f"http://127.0.0.1:8000/api/v1/runs/{newest.pk}/results/" in lines

    def test_says_how_to_make_a_first_run(self, db):
        assert "manage.py fetch_urls" in announcement("::1", 8000)[-1]
        assert "http://[::1]:8000" in announcement("::1", 8000)[0]

    @pytest.mark.urls("tests.fetcher.no_urls")
    def test_without_the_api_is_an_error(self, db):
        with pytest.raises(CommandError, match="include"):
            announcement("127.0.0.1", 8000)
