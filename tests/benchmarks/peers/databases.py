"""Databases for runs to begin with, empty or with results in them: made once, then copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.benchmarks.project import ROOT, environment
from tests.benchmarks.stacks.measuring import Unavailable
from tests.support.postgres import reason_against

FILE = "db.sqlite3"
_FILL = """
import sys, django
django.setup()
from tests.support.synthetic import fill
fill(runs=1, results=int(sys.argv[1]))
"""


class Databases:
    """Copies of prepared databases. ``results`` is how many a filled one has.

    SQLite's are files below ``folder``; PostgreSQL's are databases of the server, dropped when the block is left.
    """

    def __init__(self, folder: Path, server: str, results: int) -> None:
        self._folder = folder / "prepared"
        self._server = server
        self._results = results
        self._made: list[str] = []

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in reversed(self._made):
            self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def new_sqlite(self, folder: Path, *, filled: bool = False) -> str:
        """Put a database into a folder and return its URL."""
        template = self._folder / ("filled" if filled else "empty") / FILE
        if not template.exists():
            template.parent.mkdir(parents=True)
            self._prepare(f"sqlite:///{template}", filled=filled)
        shutil.copyfile(template, folder / FILE)
        return f"sqlite:///{folder / FILE}"

    def new_postgres(self, *, filled: bool = False) -> str:
        """Make a database on the server, in place of the last that was copied, and return its URL.

        Raises Unavailable.
        """
        if reason := reason_against(self._server):
            raise Unavailable(f"no PostgreSQL server answers: {reason}")
        template = f"trawl_benchmark_{os.getpid()}_{'filled' if filled else 'empty'}"
        if template not in self._made:
            self._create(template)
            self._prepare(self._url(template), filled=filled)
        copy = f"trawl_benchmark_{os.getpid()}"
        self._execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
        self._create(copy, template)
        self._execute("CHECKPOINT")  # what the copy left to write is not the run's
        return self._url(copy)

    def _prepare(self, url: str, *, filled: bool) -> None:
        variables = {**os.environ, **environment({"DATABASE_URL": url})}
        commands = [["manage.py", "migrate", "--verbosity", "0"]]
        if filled:
            commands.append(["-c", _FILL, str(self._results)])
        for arguments in commands:
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=variables, check=True)

    def _create(self, name: str, template: str = "template1") -> None:
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        if name not in self._made:
            self._made.append(name)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._server)._replace(path=f"/{name}"))
