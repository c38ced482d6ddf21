"""``manage.py`` in a process of its own, as a person or a script calls it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection

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


class Called:
    """What a command (fetch_urls) printed and how it exited, called in this process."""

    def __init__(self, *arguments: str, command: str = "fetch_urls") -> None:
        out, err = io.StringIO(), io.StringIO()
        self.code: int | str | None = 0
        try:
            call_command(command, *arguments, stdout=out, stderr=err)
        except SystemExit as exc:
            self.code = exc.code
        except CommandError as exc:
            self.code = exc.returncode
            err.write(f"{exc}\n")
        self.out, self.err = out.getvalue(), err.getvalue()
