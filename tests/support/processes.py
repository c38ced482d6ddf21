"""Servers beside the tests: found or skipped, started on free ports, awaited, stopped with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIRED = "TRAWL_REQUIRE_SERVICES"
START = 20.0
"""Seconds in which a server must accept connections."""
STOP = 5.0
"""Seconds that it has to end on SIGTERM."""


class DidNotStart(Exception):
    """A server ended or accepted no connection; the text has the end of its output."""


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where the environment says that every service must be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], port: int, output: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it is entered when the server accepts connections on the loopback port.

    Raises DidNotStart. What it prints goes to the file ``output``.
    """
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # one group, so that no child of it survives
        )
    try:
        _await_port(process, port, output)
        yield process
    finally:
        _stop(process)


def _await_port(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    state = "still runs" if process.poll() is None else f"ended with {process.returncode}"
    said = output.read_text(errors="replace")[-2000:]
    raise DidNotStart(f"{process.args!r} {state} and accepts no connection on port {port}; it said:\n{said}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
