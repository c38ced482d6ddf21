"""Readers that do not read: what they cost the server, when it cuts them off, and whether others are served."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from fetcher.api.streaming import reset_connection, unread_bytes
from tests.rows import make_body, make_result, make_run, make_shard
from tests.support.commands import database_url
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
    pytest.mark.django_db(transaction=True),
]

READERS = 60
THREADS = 16
"""Threads that the server may have beside those from before: two small pools, and a few that are just ending."""
LINE = 60_000
LINES = 150
"""Together more than the system's buffers take of an answer that nobody reads (some 4.5 MB on loopback)."""


def make_large_run() -> int:
    run = make_run()
    shard = make_shard(run)
    for number in range(LINES):
        make_result(run, f"https://example.com/{number}", shard=shard, status="failed", error_detail="x" * LINE)
    return run.pk


class Server:
    """A served project, and its worker process as the system sees it."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.port = urlsplit(base).port
        [self._worker] = self._workers()

    def _workers(self) -> list[Path]:
        mark = f"--port\0{self.port}\0".encode()
        found = {path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(path)}
        numbers = {path.name for path in found}
        return [path for path in found if _status(path, "PPid") in numbers]

    @property
    def threads(self) -> int:
        return int(_status(self._worker, "Threads"))

    @property
    def memory(self) -> int:
        """Resident memory in MiB."""
        return int(_status(self._worker, "VmRSS").split()[0]) // 1024

    @property
    def connections(self) -> int:
        """Established connections to the server that it has not closed."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        local = f"0100007F:{self.port:04X}"
        open_ones = {line.split()[9] for line in lines if line.split()[1] == local and line.split()[3] != "0A"}
        links = [str(entry.readlink()) for entry in (self._worker / "fd").iterdir() if entry.is_symlink()]
        return sum(link[len("socket:[") : -1] in open_ones for link in links if link.startswith("socket:["))

    def reader(self, path: str, accept: str = "application/x-ndjson", cookie: str = "") -> socket.socket:
        """Send a request whose answer is not read."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(30)
        made.connect(("127.0.0.1", self.port))
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Accept: {accept}", f"Cookie: {cookie}", "", ""]
        made.sendall("\r\n".join(lines).encode())
        return made


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _status(process: Path, name: str) -> str:
    for line in _read(process / "status").decode().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""


@pytest.fixture
def served(serve_project: Callable[..., str]) -> Callable[..., Server]:
    return lambda **environment: Server(serve_project(database_url(), environment=environment))


@pytest.fixture
def keeping() -> Iterator[ExitStack]:
    """Closes what is put into it when the test ends."""
    with ExitStack() as stack:
        yield stack


def receive_all(reader: socket.socket) -> tuple[bytes, bool]:
    """Read to the end; the bytes, and whether the connection was reset."""
    received = bytearray()
    try:
        while chunk := reader.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        return bytes(received), True
    return bytes(received), False


def test_hung_readers_take_no_threads_and_little_memory_and_others_are_served(
    served: Callable[..., Server], keeping: ExitStack
) -> None:
    server, run = served(FETCHER_WRITE_TIMEOUT="600"), make_large_run()
    with httpx.Client(base_url=server.base, trust_env=False, timeout=30) as client:
        client.get("/api/v1/runs/").raise_for_status()
        threads, memory = server.threads, server.memory
        for _ in range(READERS):
            keeping.enter_context(closing(server.reader(f"/api/v1/runs/{run}/results/")))
        eventually(lambda: server.connections > READERS)
        for _ in range(10):
            client.get("/api/v1/runs/").raise_for_status()
            time.sleep(0.2)
        eventually(lambda: server.threads <= threads + THREADS)
        assert server.memory - memory <= 100


def test_hung_readers_of_pages_take_no_threads_either(served: Callable[..., Server], keeping: ExitStack) -> None:
    server, run = served(FETCHER_WRITE_TIMEOUT="600"), make_large_run()
    with httpx.Client(base_url=server.base, trust_env=False, timeout=30) as client:
        client.get("/api/v1/runs/").raise_for_status()
        threads = server.threads
        for _ in range(READERS // 2):
            path = f"/api/v1/runs/{run}/results/?limit=1000"
            keeping.enter_context(closing(server.reader(path, accept="application/json")))
        eventually(lambda: server.connections > READERS // 2)
        for _ in range(5):
            client.get("/api/v1/runs/").raise_for_status()
            time.sleep(0.2)
        eventually(lambda: server.threads <= threads + THREADS)


def test_reader_that_takes_nothing_is_cut_off_and_can_tell(served: Callable[..., Server], keeping: ExitStack) -> None:
    server, run = served(FETCHER_WRITE_TIMEOUT="1"), make_large_run()
    readers = [keeping.enter_context(closing(server.reader(f"/api/v1/runs/{run}/results/"))) for _ in range(8)]
    eventually(lambda: server.connections >= len(readers))
    eventually(lambda: server.connections == 0)
    for reader in readers:
        received, reset = receive_all(reader)
        assert reset or not received.endswith(b"0\r\n\r\n"), "a cut answer must not look like a whole one"
        assert received.count(b"\n{") < LINES - 1


def test_reader_that_takes_a_little_now_and_then_gets_everything(
    served: Callable[..., Server], keeping: ExitStack
) -> None:
    server, run = served(FETCHER_WRITE_TIMEOUT="4"), make_large_run()
    reader = keeping.enter_context(closing(server.reader(f"/api/v1/runs/{run}/results/")))
    received = bytearray()
    end = time.monotonic() + 12  # three times as long as one may take nothing
    while time.monotonic() < end:
        received += reader.recv(1 << 14)
        time.sleep(0.3)
    while not received.endswith(b"0\r\n\r\n"):
        chunk = reader.recv(1 << 16)
        assert chunk, "the reader was cut off although it read"
        received += chunk
    assert received.count(b'"error_kind"') == LINES


def test_hung_reader_of_a_body_is_cut_off(served: Callable[..., Server], keeping: ExitStack) -> None:
    server = served(FETCHER_WRITE_TIMEOUT="1")
    result = make_result(make_run(), body=make_body(b"x" * 9_000_000), content_type="text/plain")
    reader = keeping.enter_context(closing(server.reader(f"/api/v1/results/{result.pk}/body/")))
    eventually(lambda: server.connections == 1)
    eventually(lambda: server.connections == 0)
    received, _ = receive_all(reader)
    assert len(received) < 9_000_000


@pytest.mark.skipif(connection.vendor != "postgresql", reason="counts the server's sessions")
def test_hung_readers_with_a_login_hold_no_database_connections(
    served: Callable[..., Server], keeping: ExitStack
) -> None:
    server, run = served(FETCHER_WRITE_TIMEOUT="600", FETCHER_API_ACCESS="login"), make_large_run()
    client = Client()
    client.force_login(User.objects.create_user("reader"))
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    for _ in range(20):
        keeping.enter_context(closing(server.reader(f"/api/v1/runs/{run}/results/", cookie=cookie)))

    def sessions() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            return int(cursor.fetchone()[0])

    eventually(lambda: server.connections == 20)
    eventually(lambda: sessions() == 0)


class TestResetConnection:
    def test_finds_its_own_connection_by_both_ends_and_resets_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            other = socket.create_connection(listener.getsockname())
            kept = [listener.accept()[0] for _ in range(2)]
            scope = {"client": client.getsockname(), "server": ("127.0.0.1", str(listener.getsockname()[1]))}
            assert unread_bytes(scope) == 0
            kept[0].setblocking(False)
            with pytest.raises(BlockingIOError):
                kept[0].sendall(b"x" * 50_000_000)
            assert unread_bytes(scope)
            assert reset_connection(scope)
            kept[0].close()
            client.settimeout(10)
            assert receive_all(client)[1]
            kept[1].sendall(b"well")
            assert other.recv(100) == b"well"
            for each in (client, other, kept[1]):
                each.close()

    @pytest.mark.parametrize(
        "scope",
        [{}, {"client": None, "server": None}, {"client": ("192.0.2.1", 5), "server": ("127.0.0.1", 80)},
         {"client": ("127.0.0.1", 0), "server": ("unix", None)}],
    )  # fmt: skip
    def test_finds_nothing_behind_a_proxy_or_on_a_local_socket(self, scope: dict[str, object]) -> None:
        assert not reset_connection(scope)
        assert unread_bytes(scope) is None
