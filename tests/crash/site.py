"""Where runs are killed: an origin, the model of a database that knows some of its URLs, and processes."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fetcher.demo.origin import Entry, Origin
from tests.crash.databases import Database, new_database, remove
from tests.crash.script import Hanging, Script, known_urls
from tests.support.processes import ROOT

LABEL = "crash"
GRACE = 2.0
"""Seconds that the first signal leaves to what is in flight, in these runs."""
LIMIT = 60.0
"""Seconds after which a process hangs."""
SOME_FAILED = 3
_KNOWN_LABEL = "before"
_MARK = "TRAWL_CRASH_RUN"
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "tests.crash.settings",
    "PYTHONPATH": str(ROOT),
    "FETCHER_ALLOWED_NETWORKS": "127.0.0.0/8",
    "FETCHER_CONCURRENCY": "16",
    "FETCHER_BACKOFF_BASE": "0.3",
    "FETCHER_GRACE": str(GRACE),
    # Hundreds of processes start: none but the first is to compile what it imports, whatever the environment says.
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / f"trawl-crash-bytecode-{sys.implementation.cache_tag}"),
}


class Hung(Exception):
    """A process did not end in time."""


@dataclass(slots=True)
class Command:
    """A ``fetch_urls`` in a process group of its own, with what it says on standard error.

    ``mark`` is in the environment of all its processes, and of no others.
    """

    process: subprocess.Popen[bytes]
    mark: bytes
    said: Path
    began: float

    @property
    def text(self) -> str:
        """Standard error so far, without the lines that were rejected."""
        lines = self.said.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if ": rejected: " not in line)

    def wait(self, seconds: float = LIMIT) -> int:
        """Wait for the command and return its exit code. Raises Hung."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Hung(f"{' '.join(self.process.args)} still runs after {seconds:g} s") from None  # type: ignore[arg-type]

    def signal_all(self, number: int) -> None:
        """Signal the process group, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def members(self) -> list[int]:
        """Return its processes that still run, itself included."""
        return [pid for pid in _pids() if self.mark in _read(pid, "environ")]

    def helpers(self) -> list[int]:
        """Return its ``fetcher.worker`` processes."""
        return [pid for pid in self.members() if b"fetcher.worker" in _read(pid, "cmdline")]

    def wait_for_all(self, seconds: float = LIMIT) -> None:
        """Wait until none of its processes runs. Raises Hung."""
        if not wait_until(lambda: not self.members(), seconds, every=0.02):
            raise Hung(f"processes {self.members()} of the command still run after {seconds:g} s")


def wait_until(condition: Callable[[], bool], seconds: float = LIMIT, *, every: float = 0.003) -> bool:
    """Poll until a condition holds; False where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


class Site:
    """One origin and one model of each kind of database. Used by one run at a time."""

    def __init__(self, origin: Origin, hanging: Hanging, models: Mapping[str, Database], folder: Path) -> None:
        self.origin = origin
        self.hanging = hanging
        self.netlocs = [origin.netloc(number) for number in range(len(origin.ports))]
        self._empty = models
        self._models: dict[str, Database] = {}
        self._folder = folder

    @contextlib.contextmanager
    def scratch(self, kind: str) -> Iterator[Scratch]:
        """A new folder with a new database in it. Both are kept where ``keep`` was set."""
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self._folder))
        scratch = Scratch(folder, self._model(kind).copy(folder), self.origin)
        try:
            yield scratch
        finally:
            scratch.end()
            if not scratch.keep:
                scratch.database.drop()
                remove(folder)

    def _model(self, kind: str) -> Database:
        if kind not in self._models:
            folder = Path(tempfile.mkdtemp(prefix=f"model-{kind}-", dir=self._folder))
            model = self._models[kind] = self._empty[kind].copy(folder)
            scratch = Scratch(folder, model, self.origin)
            listing = folder / "known.txt"
            listing.write_text("\n".join(known_urls(self.netlocs)))
            command = scratch.fetch("--file", str(listing), "--label", _KNOWN_LABEL)
            if command.wait():
                raise RuntimeError(f"the run before all others failed: {command.text}")
        return self._models[kind]

    def close(self) -> None:
        """Remove the models."""
        for model in self._models.values():
            model.drop()


class Scratch:
    """What one run has for itself, and the origin's log since it began."""

    def __init__(self, folder: Path, database: Database, origin: Origin) -> None:
        self.folder = folder
        self.database = database
        self.keep = False
        self._origin = origin
        self._began = time.monotonic()
        self._commands: list[Command] = []

    @property
    def log(self) -> list[Entry]:
        """The requests since this run began, oldest first."""
        return [entry for entry in self._origin.log if entry.started >= self._began]

    def listing(self, script: Script) -> list[str]:
        """Write the list, its second half packed, and return the options that read it."""
        half = len(script.lines) // 2
        plain, packed = self.folder / "urls.txt", self.folder / "more.txt.gz"
        plain.write_text("\n".join(script.lines[:half]) + "\n")
        packed.write_bytes(gzip.compress("\n".join(script.lines[half:]).encode()))
        return ["--file", str(plain), "--file", str(packed)]

    def fetch(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Command:
        """Start ``fetch_urls``."""
        mark = f"{self.folder.name}-{len(self._commands)}"
        said = self.folder / f"stderr-{len(self._commands)}.txt"
        values = {
            **os.environ,
            **ENVIRONMENT,
            "DATABASE_URL": self.database.url,
            "MEDIA_ROOT": str(self.folder / "media"),
            _MARK: mark,
            **(environment or {}),
        }
        with said.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "fetch_urls", "--progress", "none", *arguments],
                cwd=ROOT,
                env=values,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=sink,
                start_new_session=True,
            )
        command = Command(process, f"{_MARK}={mark}".encode() + b"\0", said, time.monotonic())
        self._commands.append(command)
        return command

    def end(self) -> None:
        """End every process that was started here."""
        for command in self._commands:
            for pid in command.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            command.process.wait()


def migrated(kind: str, folder: Path, server: str) -> Database:
    """Return a new, migrated database without a row."""
    database = new_database(kind, folder, server)
    variables = {**os.environ, **ENVIRONMENT, "DATABASE_URL": database.url}
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=variables, check=True)
    return database


def is_running(pid: int) -> bool:
    """Whether a process runs: one that was killed and not yet missed by its parent does not."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(fields) and fields[0] != b"Z"


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """Return a file of a process, empty where it has ended (proc(5))."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
