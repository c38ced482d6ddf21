"""Processes that differ in their environment, forked from one that has imported what all of them need.

Only for programs that no test changes by what it imported before: Django's settings are not loaded there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.processes import ROOT

_FORK_EACH = """
import json, os, sys, tempfile
import croniter, cryptography.fernet, django.core.management, django.db.backends.postgresql.base
import django.db.backends.sqlite3.base, django.db.models, fetcher.engine.runner, filelock, httpx, jmespath
import multiprocessing.queues, rich.console, rich.progress

program, cases = json.load(sys.stdin)
found = []
for environment, arguments in cases:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if not (child := os.fork()):
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["manage.py", *arguments]
            break  # the program is the rest of this file: it ends as any other
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found.append([code, *(os.pread(file.fileno(), 2**24, 0).decode() for file in (out, err))])
else:
    print(json.dumps(found))
    sys.exit()
exec(program)
"""


def fork_each(
    program: str, cases: Sequence[tuple[Mapping[str, str], Sequence[str]]]
) -> list[subprocess.CompletedProcess[str]]:
    """Run the source ``program`` once for each environment and its arguments, in order, and return how each ended."""
    done = subprocess.run(
        [sys.executable, "-c", _FORK_EACH], cwd=ROOT, input=json.dumps([program, cases]), capture_output=True,
        text=True, check=True, timeout=100,
    )  # fmt: skip
    found: list[list[Any]] = json.loads(done.stdout)
    return [
        subprocess.CompletedProcess(list(arguments), code, out, err)
        for (_, arguments), (code, out, err) in zip(cases, found, strict=True)
    ]
