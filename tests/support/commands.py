"""``manage.py`` as a person or a script calls it: in a process of its own, or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

import django
from django.db import connection

from manage import main
from tests.support.processes import ROOT

COMMAND = [sys.executable, "manage.py"]


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the environment for a command on the test's own database; None removes a variable."""
    values = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings.test",
        "DATABASE_URL": database_url(),
        **(changes or {}),
    }
    return {name: value for name, value in values.items() if value is not None}


def database_url() -> str:
    """Return the URL of the database that the test uses; it must be a ``transactional_db``."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    password = f":{settings['PASSWORD']}" if settings["PASSWORD"] else ""
    return f"postgres://{settings['USER']}{password}@{settings['HOST']}:{settings['PORT'] or 5432}/{settings['NAME']}"


def start(*arguments: str, env: Mapping[str, str | None] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start a command with its streams piped."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=environment(env), text=True, **streams)


def manage(
    *arguments: str, env: Mapping[str, str | None] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, ``given`` on its standard input."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(env),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def call(*arguments: str, **streams: TextIO | None) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` in this process, which is much cheaper than ``manage``.

    ``stdout`` and ``stderr`` replace the streams that are captured; None is a closed one. A process is still needed to
    test environment variables, standard input, signals and what the interpreter does at its exit. An exception that
    no command catches is raised.
    """
    out, err = _captured(), _captured()
    argv = ["manage.py", *arguments]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(django, "setup"),  # a second set-up would close pytest's log handlers
        contextlib.redirect_stdout(streams.get("stdout", out)),
        contextlib.redirect_stderr(streams.get("stderr", err)),
        _same_signal_handlers(),
    ):
        code = _exit_code(main)
    return subprocess.CompletedProcess(argv, code, _text(out), _text(err))


class Called:
    """What ``call`` returns for a command (fetch_urls), under shorter names."""

    def __init__(self, *arguments: str, command: str = "fetch_urls") -> None:
        done = call(command, *arguments)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


def _exit_code(function: Callable[[], object]) -> int:
    """Return the exit code that a process would end with; write a text in its place to standard error."""
    try:
        function()
    except SystemExit as exc:
        if exc.code is None or isinstance(exc.code, int):
            return exc.code or 0
        print(exc.code, file=sys.stderr)
        return 1
    return 0


def _captured() -> io.TextIOWrapper:
    """Return a stream like a process's own: bytes below, and an encoding that can be changed."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


@contextlib.contextmanager
def closed_pipe() -> Iterator[TextIO]:
    """Give a stream into a pipe whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    with _closed_in_silence(os.fdopen(write, "w")) as stream:
        yield stream


@contextlib.contextmanager
def full_disk() -> Iterator[TextIO]:
    """Give a stream into a file for which there is no space left."""
    with _closed_in_silence(Path("/dev/full").open("w")) as stream:
        yield stream


@contextlib.contextmanager
def _closed_in_silence(stream: TextIO) -> Iterator[TextIO]:
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):  # what could not be written is tried again
            stream.close()


@contextlib.contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Restore the handlers: a command that a signal stopped keeps its own."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
