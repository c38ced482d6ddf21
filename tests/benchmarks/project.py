"""The project in processes of its own, for whole-process figures."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return variables under which loopback may be fetched from."""
    return {"DJANGO_SETTINGS_MODULE": "settings.dev", "FETCHER_ALLOWED_NETWORKS": "127.0.0.0/8", **(extra or {})}


def variables(directory: Path) -> dict[str, str]:
    """Return the whole environment of a command on the database in a folder."""
    database = {"DATABASE_URL": f"sqlite:///{directory}/db.sqlite3", "MEDIA_ROOT": str(directory / "media")}
    return {**os.environ, **environment(database)}


def migrate(directory: Path) -> None:
    """Create a database in a folder."""
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=variables(directory), check=True)


def fetch_urls(directory: Path, arguments: Sequence[str]) -> int:
    """Run ``fetch_urls`` on the database in a folder and return its peak memory in bytes. Raises where it fails."""
    command = [sys.executable, "manage.py", "fetch_urls", "--progress", "none", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=variables(directory), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"fetch_urls ended with {process.returncode}"
    return _bytes(usage)


def _bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
