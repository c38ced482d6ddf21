"""``manage.py serve``: the API over ASGI."""

from __future__ import annotations

import errno
import os
import signal
import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import connections
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from fetcher.bootstrap import ensure_database
from fetcher.cli.command import TrawlCommand
from fetcher.cli.text import program
from fetcher.conf import fetcher_settings
from fetcher.loopback import is_loopback
from fetcher.models import Run

STOP_WITHIN = 10
"""Seconds in which a worker finishes its requests after a signal, before it is killed."""


class Command(TrawlCommand):
    """Serve the JSON API and the admin until SIGINT or SIGTERM."""

    help = "Serve the JSON API and the admin over ASGI until Ctrl-C."
    epilog = """\
examples:
  manage.py serve
  manage.py serve --host 0.0.0.0 --port 80 --workers 4    # in production, with FETCHER_API_ACCESS=login
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="0 picks a free one (default: 8000)")
        parser.add_argument("--workers", type=int, default=1, help="processes that answer (default: 1)")

    def handle(self, *args: Any, host: str, port: int, workers: int, **options: Any) -> None:
        """Check everything that can be wrong, then serve."""
        if not 0 <= port <= 65535:
            raise CommandError(f"--port must be between 0 and 65535, not {port}")
        if workers < 1:
            raise CommandError(f"--workers must be at least 1, not {workers}")
        target = application()
        ensure_database()
        address, port = free_endpoint(host, port)
        if fetcher_settings().api_access == "loopback" and not is_loopback(address):
            self.stderr.write(
                self.style.WARNING(
                    f"Listening on {address}, but requests from other machines will be refused: FETCHER_API_ACCESS is "
                    "loopback. Set FETCHER_API_ACCESS=login to serve them."
                )
            )
        lines = announcement(address, port)
        connections.close_all()  # the workers are forked: none may inherit an open connection
        self._serve(target, address, port, workers, lines)

    def _serve(self, target: str, address: str, port: int, workers: int, lines: list[str]) -> None:
        from granian.constants import Interfaces
        from granian.log import LogLevels
        from granian.server import Server

        server = Server(
            target,
            address=address,
            port=port,
            interface=Interfaces.ASGINL,  # Django knows no lifespan events
            workers=workers,
            websockets=False,
            log_level=LogLevels.error,
            workers_kill_timeout=STOP_WITHIN,
        )

        def announce() -> None:
            for line in lines:
                self.stdout.write(line)
            self.stdout.flush()

        server.on_startup(announce)
        _obey_signals_while_starting()
        try:
            server.serve()
        except SystemExit:
            # Ctrl-C reaches the workers as well; one that was quicker than this process counts as crashed there.
            if not server.interrupt_signal:
                raise CommandError("A worker stopped unexpectedly; what it wrote above says why.") from None


def _obey_signals_while_starting() -> None:
    """Let a worker that has not set its own handlers yet die of a signal.

    It inherits this process's handlers, which would only note the signal and wait for a loop that runs elsewhere.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def hold() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def reset() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=reset)


def application() -> str:
    """Return ASGI_APPLICATION as ``module:name``. Raises CommandError where it cannot be used."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path or "." not in path:
        raise CommandError("ASGI_APPLICATION must be set to a path such as settings.asgi.application")
    try:
        import_string(path)
    except (ImportError, ImproperlyConfigured) as exc:
        raise CommandError(f"ASGI_APPLICATION cannot be loaded: {exc}") from None
    module, _, name = path.rpartition(".")
    return f"{module}:{name}"


def free_endpoint(host: str, port: int) -> tuple[str, int]:
    """Return the address that ``host`` means and the port, 0 replaced by a free one.

    Raises CommandError for a host that is not of this machine and for a port that is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CommandError(f"--host {host!r} is neither an address nor a known name") from None
    family, kind, protocol, _, endpoint = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(endpoint)
            probe.listen()  # some systems only find out here that somebody else listens
        except OSError as exc:
            raise CommandError(_refusal(host, port, exc)) from None
        address, number = probe.getsockname()[:2]
    return address, number


def _refusal(host: str, port: int, exc: OSError) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return f"Port {port} on {host} is in use. Stop what listens there or choose another with --port."
        case errno.EACCES:
            return f"Port {port} may not be opened by this user. Choose one above 1023 with --port."
        case errno.EADDRNOTAVAIL:
            return f"--host {host} is no address of this machine. Use 127.0.0.1, or 0.0.0.0 for all of them."
        case _:
            return f"{host}:{port} cannot be listened on: {exc.strerror}"


def announcement(address: str, port: int) -> list[str]:
    """Return the lines that say where to look: the runs, and the latest run's results where there is one."""
    base = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    lines = [f"Listening on {base} (Ctrl-C stops)"]
    try:
        lines.append(f"  runs                     {base}{reverse('fetcher:run-list')}")
        newest = Run.objects.order_by("-id").values_list("id", flat=True).first()
        if newest is not None:
            path = reverse("fetcher:run-results", args=[newest])
            lines.append(f"  the latest run's results {base}{path}")
        else:
            lines.append(f"  no run yet; start one with: {program()} fetch_urls URL ...")
    except NoReverseMatch:
        raise CommandError(
            "The API has no address here. Add path('', include('fetcher.api.urls')) to the URLs."
        ) from None
    return lines
