"""Web applications in processes of their own, under the project's server."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from tests.support.processes import DidNotStart, free_port, running

Interface = Literal["asgi", "wsgi"]
_TRIES = 3


class PackageMissing(Exception):
    """A package that a service needs is not installed; the text names it."""


@contextlib.contextmanager
def running_application(
    application: str, directory: Path, *, interface: Interface, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve ``module:name`` on a free loopback port until the block ends; gives the base URL without a last slash.

    Raises DidNotStart. Its output is kept in ``directory``.
    """
    with contextlib.ExitStack() as stack:
        for left in reversed(range(_TRIES)):
            port = free_port()
            command = [sys.executable, "-m", "granian", "--interface", interface, "--host", "127.0.0.1"]
            command += ["--port", str(port), "--workers", "1", "--no-ws", application]
            try:
                stack.enter_context(running(command, port, directory / f"{interface}-{port}.log", environment))
                break
            except DidNotStart:
                if not left:  # the port can be taken in between
                    raise
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running_project(
    directory: Path,
    database_url: str,
    *,
    interface: Interface = "asgi",
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Serve this project against a migrated database until the block ends; gives the base URL.

    ``environment`` adds variables, such as ``FETCHER_…``. Raises DidNotStart.
    """
    base = {
        "DJANGO_SETTINGS_MODULE": "settings.test",
        "DATABASE_URL": database_url,
        "MEDIA_ROOT": str(directory / "media"),
    }
    merged = {**base, **(environment or {})}
    target = f"settings.{interface}:application"
    with running_application(target, directory, interface=interface, environment=merged) as url:
        yield url


@contextlib.contextmanager
def running_httpbin(directory: Path) -> Iterator[str]:
    """Serve httpbin until the block ends; gives the base URL. Raises PackageMissing, and DidNotStart."""
    if importlib.util.find_spec("httpbin") is None:
        raise PackageMissing("httpbin is not installed (it belongs to the test dependencies)")
    with running_application("httpbin:app", directory, interface="wsgi") as url:
        yield url
