"""The servers that a trial has for itself: Redis, which it may restart, and the clusters."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.cluster.changes import NAME
from tests.crash.site import Hung, is_running, wait_until
from tests.support.processes import ROOT, free_port

START = 30.0
"""Seconds in which a cluster or a server must be there."""
STOP = 60.0
"""Seconds that a cluster has to end once it was asked."""
_READY = re.compile(r"ready for work at (\d+)")


class RedisMissing(Exception):
    """Redis is not installed; the text says what to install."""


@dataclass(slots=True)
class RedisServer:
    """A Redis that keeps nothing on disk: what it had is gone when it is restarted. On a port that it keeps."""

    program: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers. Raises Hung."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self.folder / "redis.log").open("ab") as sink:
            self.process = subprocess.Popen(
                [self.program, *options, "--dir", str(self.folder)],
                stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        if not wait_until(self._answers, START, every=0.02):
            raise Hung(f"Redis does not answer on port {self.port}; {self.folder}/redis.log says why")

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def forget(self) -> None:
        """Remove everything that an earlier trial left."""
        with contextlib.closing(redis.from_url(self.url)) as client:
            client.flushall()

    def _answers(self) -> bool:
        with contextlib.closing(redis.from_url(self.url)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    """Run a Redis until the block ends. Raises RedisMissing."""
    program = shutil.which("redis-server")
    if program is None:
        raise RedisMissing("redis-server is not installed (Debian: apt-get install redis-server)")
    server = RedisServer(program, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class QCluster:
    """A ``manage.py qcluster`` in a process group of its own. It passes for a machine called ``name``."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.said = folder / f"{name}.txt"
        with self.said.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "qcluster"],
                cwd=ROOT,
                env={**os.environ, **environment, NAME: name},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it said so far."""
        return self.said.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """Its worker processes that still run."""
        return [pid for pid in map(int, _READY.findall(self.text)) if is_running(pid)]

    def await_ready(self) -> None:
        """Wait until its workers are there. Raises Hung."""
        if not wait_until(lambda: bool(self.workers) or not self.is_there, START, every=0.02) or not self.is_there:
            raise Hung(f"cluster {self.name} did not begin; it said: {self.text[-1500:]}")

    @property
    def is_there(self) -> bool:
        """Whether its main process runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL to all its processes, and wait for their end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not _group(self.process.pid), STOP)

    def kill_main(self) -> None:
        """SIGKILL to the main process alone."""
        self.process.kill()
        self.process.wait()

    def kill_worker(self, pid: int) -> None:
        """SIGKILL to one of its workers."""
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid), STOP)

    def terminate(self) -> None:
        """SIGTERM to the main process, as a supervisor sends it."""
        self.process.terminate()

    def await_end(self, seconds: float = STOP) -> float:
        """Wait for its end after ``terminate`` and return how many seconds that took. Raises Hung."""
        began = time.monotonic()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Hung(f"cluster {self.name} still runs {seconds:g} s after SIGTERM") from None
        return time.monotonic() - began


def _group(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return any(
        (fields := _stat(path).rpartition(")")[2].split()) and fields[0] != "Z" and int(fields[2]) == leader
        for path in Path("/proc").iterdir()
        if path.name.isdigit()
    )


def _stat(path: Path) -> str:
    try:
        return (path / "stat").read_text(errors="replace")
    except OSError:
        return ""
