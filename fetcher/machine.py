"""Which process this is, so that another on the same machine can tell whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it is known in the database.

    ``boot`` names a start of the kernel and a PID namespace (containers share the one, not the other); empty where the
    system tells neither. ``started`` is the kernel's own clock at its start, in ticks, None where that is not told.
    """

    hostname: str
    boot: str
    pid: int
    started: int | None


def this_process() -> Process:
    """Return this process. Not cached: a fork is another one."""
    hostname, boot = _machine()
    return Process(hostname, boot, os.getpid(), _started(os.getpid()))


def is_gone(process: Process) -> bool:
    """Whether a process has certainly ended: it was of this machine, since this boot, and no longer runs.

    False wherever that cannot be known. A number that was given to another process since is told by its start.
    """
    if (process.hostname, process.boot) != _machine():
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, and is another user's
        pass
    started = _started(process.pid)
    if _is_zombie(process.pid):
        return True
    return None not in (started, process.started) and started != process.started


@cache
def _machine() -> tuple[str, str]:
    return socket.gethostname()[:255], _boot()


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux: the host name alone tells machines apart
        return ""


def _started(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def _is_zombie(pid: int) -> bool:
    """Whether a process was killed and only its parent has not noticed yet."""
    return _stat(pid)[:1] == ["Z"]


def _stat(pid: int) -> list[str]:
    """Return the fields after the command's name (proc(5), ``/proc/pid/stat``), empty where there are none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
