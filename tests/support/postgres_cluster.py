"""A PostgreSQL server of a test's own, which it may stop and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import free_port

_USER = "postgres"
"""The server refuses to run as root; as root it is run as this user."""


class ClusterMissing(Exception):
    """PostgreSQL's server programs are not installed, or cannot be run; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server, on a loopback port that it keeps."""

    folder: Path
    port: int
    programs: Path

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgres://{_USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -F"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Stop the server as a crash would: connections are cut, what was committed is recovered at the next start."""
        self._control("stop", "-m", "immediate")

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Keep the server stopped while the block runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _control(self, action: str, *arguments: str) -> None:
        _run(str(self.programs / "pg_ctl"), action, "-w", "-t", "30", "-D", str(self.folder / "data"), *arguments)


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Run a new, empty server until the block ends. Raises ClusterMissing."""
    programs = _programs()
    # Not in pytest's folders, which are this user's alone.
    folder = Path(tempfile.mkdtemp(prefix="trawl-postgres-"))
    try:
        if os.geteuid() == 0:
            try:
                shutil.chown(folder, _USER)
            except LookupError:
                raise ClusterMissing(f"there is no user {_USER} to run a server as") from None
        _run(str(programs / "initdb"), "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-N", "-E", "UTF8")
        cluster = Cluster(folder, free_port(), programs)
        cluster.start()
        try:
            yield cluster
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # stopped by the test
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    if name := shutil.which("initdb"):
        return Path(name).resolve().parent
    raise ClusterMissing("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)")


def _run(*command: str) -> None:
    prefix = ("runuser", "-u", _USER, "--") if os.geteuid() == 0 else ()
    if prefix and shutil.which("runuser") is None:
        raise ClusterMissing("runuser is not installed, and PostgreSQL does not run as root")
    subprocess.run(
        [*prefix, *command],
        cwd="/",
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a pipe would be inherited by the server, and never end
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
        timeout=60,
    )
