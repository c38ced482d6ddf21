"""A scripted HTTP/1.1 origin on loopback, and a record of what it was asked.

::

    async with Origin() as origin:              in a running loop
        await client.get(origin.url("/ok/1"))
        assert origin.peak == 1

    with ThreadedOrigin(listeners=2) as origin: in a thread and loop of its own, for a program that has none yet
        ...

It knows the paths of ``fetcher.demo.behaviours`` and ``fetcher.demo.faults``; ``routes`` adds to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fetcher.demo.behaviours import BEHAVIOURS
from fetcher.demo.exchange import MAX_HEAD, BadRequest, Exchange, Handler, Pairs, Request, find_header, read_request
from fetcher.demo.faults import FAULTS

LOG_SIZE = 10_000
"""Requests that the log remembers, unless it is told otherwise."""


@dataclass(slots=True)
class Entry:
    """One request as the origin saw it.

    ``path`` has the query. ``started`` and ``ended`` are readings of the monotonic clock in seconds; ``ended`` is None
    while the request is in flight, ``status`` None where nothing was answered. ``connection`` numbers the connections
    in the order of their opening, from 1.
    """

    method: str
    path: str
    headers: Pairs
    connection: int
    started: float
    ended: float | None = None
    status: int | None = None

    def header(self, name: str) -> str:
        """Return the first value of a request header, or an empty string."""
        return find_header(self.headers, name)


async def _unknown(exchange: Exchange) -> None:
    await exchange.answer_json({"detail": "nothing is scripted at this path"}, 404)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Closing with unread input sends a RST, which would take the answer away from a client that is still sending.
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while await reader.read(MAX_HEAD):
                pass


class Origin:
    """The server. ``listeners`` ports share one script, one log and one count; each is a host of its own to a client.

    ``routes`` maps the first segment of a path (without slashes) to a handler. The log remembers the last ``log_size``
    requests. With ``context`` it speaks TLS. Raises OSError on entering where the port is taken. An exception in a
    handler is raised when the origin stops: a broken script must not pass for a broken client.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        listeners: int = 1,
        routes: Mapping[str, Handler] | None = None,
        context: ssl.SSLContext | None = None,
        log_size: int = LOG_SIZE,
    ) -> None:
        self.host = host
        self.ports: tuple[int, ...] = ()
        self.accepted = 0
        self.in_flight = 0
        self.peak = 0
        self.peaks: dict[str, int] = {}
        self.errors: list[Exception] = []
        self._wanted = [port] + [0] * (listeners - 1)
        self._routes = {**BEHAVIOURS, **FAULTS, **{key.strip("/"): value for key, value in (routes or {}).items()}}
        self._context = context
        self._token = secrets.token_hex(4)
        self._log: deque[Entry] = deque(maxlen=log_size)
        self._visits: Counter[str] = Counter()
        self._by_host: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def log(self) -> tuple[Entry, ...]:
        """The last requests, oldest first."""
        return tuple(self._log)

    @property
    def port(self) -> int:
        """The first listener's port."""
        return self.ports[0]

    def netloc(self, listener: int = 0) -> str:
        """Return ``address:port`` of a listener, as a Host header and an allowed network have it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.ports[listener]}"

    def url(self, path: str = "/", listener: int = 0) -> str:
        """Return the URL of a path at one of the listeners."""
        scheme = "https" if self._context else "http"
        return f"{scheme}://{self.netloc(listener)}/{path.removeprefix('/')}"

    def requests(self, prefix: str) -> list[Entry]:
        """Return the log's entries whose path begins with ``prefix``."""
        return [entry for entry in self._log if entry.path.startswith(prefix)]

    async def __aenter__(self) -> Self:
        try:
            for port in self._wanted:
                self._servers.append(
                    await asyncio.start_server(
                        self._accept, self.host, port, limit=MAX_HEAD, backlog=1024, ssl=self._context
                    )
                )
        except OSError:
            await self._close()
            raise
        self.ports = tuple(server.sockets[0].getsockname()[1] for server in self._servers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        if self.errors and error is None:
            raise ExceptionGroup("handlers of the scripted origin failed", self.errors)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        await asyncio.sleep(0)  # aborted transports close in the loop's next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function: the task is known from the first moment, and stopping misses none.
        self.accepted += 1
        task = asyncio.create_task(self._converse(reader, writer, self.accepted))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer, number):
                    pass
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        try:
            request = await read_request(reader, writer)
        except BadRequest as exc:
            refused = Exchange(Request("GET", "", "", {}, (("Connection", "close"),), b""), reader, writer)
            await refused.answer_json({"detail": str(exc)}, 400)
            await _linger(reader, writer)
            return False
        prefix, *rest = request.path.strip("/").split("/")
        exchange = Exchange(request, reader, writer, segments=tuple(rest), visits=self._visits, token=self._token)
        entry = Entry(request.method, request.target, request.headers, number, time.monotonic())
        self._log.append(entry)
        host = request.header("Host")
        self._begin(host)
        try:
            await self._handle(self._routes.get(prefix, _unknown), exchange)
        finally:
            # Between the last bytes of a small answer and this there is no await, so a client that has read its answer
            # never finds the request still counted.
            entry.ended, entry.status = time.monotonic(), exchange.status
            self.in_flight -= 1
            self._by_host[host] -= 1
        return exchange.keep_alive

    def _begin(self, host: str) -> None:
        self.in_flight += 1
        self._by_host[host] += 1
        self.peak = max(self.peak, self.in_flight)
        self.peaks[host] = max(self.peaks.get(host, 0), self._by_host[host])

    async def _handle(self, handler: Handler, exchange: Exchange) -> None:
        try:
            await handler(exchange)
        except BadRequest as exc:
            await exchange.answer_json({"detail": str(exc)}, 400)
        except OSError:
            raise  # the client went away, or the handler cut it off
        except Exception as exc:  # noqa: BLE001  (kept, and raised when the origin stops)
            self.errors.append(exc)
            exchange.keep_alive = False


class ThreadedOrigin:
    """An origin in a thread with a loop of its own; entering gives the ``Origin``, whose record may be read from here.

    Takes the arguments of ``Origin`` and raises what it raises.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        listeners: int = 1,
        routes: Mapping[str, Handler] | None = None,
        context: ssl.SSLContext | None = None,
        log_size: int = LOG_SIZE,
    ) -> None:
        self.origin = Origin(host, port, listeners=listeners, routes=routes, context=context, log_size=log_size)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trawl-demo-origin", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Origin:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self.origin

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended by itself in the meantime
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:  # noqa: BLE001  (handed to the thread that entered)
            self._error = exc
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.origin:
            self._ready.set()
            await self._stop.wait()
