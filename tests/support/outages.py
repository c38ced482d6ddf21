"""A database that is away while a run goes on."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from django.db import OperationalError

from fetcher.demo.origin import ThreadedOrigin
from tests.support.commands import manage, start

_HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""
_END = 120.0
"""Seconds in which the run must end once its database is back."""


@contextlib.contextmanager
def sqlite_held(path: Path | str) -> Iterator[None]:
    """Have another process hold a SQLite file's write lock while the block runs."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.stdin.close()


def locked() -> OperationalError:
    """Return SQLite's error for a lock that another process has, as Django raises it."""
    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


@dataclass(frozen=True, slots=True)
class Ridden:
    """How a run ended whose database was away: the command's exit code and messages, the targets that it had."""

    code: int
    errors: str
    urls: Sequence[str]


def ride_through(
    database_url: str, away: Callable[[], AbstractContextManager[None]], seconds: float, *, targets: int = 240
) -> Ridden:
    """Run ``fetch_urls`` on a database that is away for so long once a third of the targets was asked for.

    The long form of these tests calls it for SQLite with ``sqlite_held`` and a minute.
    """
    environment = {"DATABASE_URL": database_url}
    assert manage("migrate", env=environment).returncode == 0
    with ThreadedOrigin(listeners=3) as origin:
        urls = [origin.url(f"/slow/{number}?ms=150", number % 3) for number in range(targets)]
        options = ("--allow-network", "127.0.0.1/32", "--progress", "none", "--output", "summary")
        with start("fetch_urls", "-", *options, env=environment) as process:
            assert process.stdin is not None
            process.stdin.write("\n".join(urls))
            process.stdin.close()
            process.stdin = None
            while len(origin.log) < targets // 3 and process.poll() is None:
                time.sleep(0.01)
            with away():
                time.sleep(seconds)
            _, errors = process.communicate(timeout=_END)
    return Ridden(process.returncode, errors, urls)
