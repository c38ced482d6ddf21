"""Sending long answers under ASGI to readers that may be slow, or may not read at all.

Django keeps a thread for each request until its answer is sent, with the database connection that the session used.
A hundred hung readers would be a hundred threads and connections. So a stream first gives both up, then makes each part
in a thread of a small pool, and holds nothing but that part while it waits for the reader. A reader that takes nothing
for ``FETCHER_WRITE_TIMEOUT`` seconds is cut off.

Under WSGI a thread for each request is the server's own way of working, and so are its timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import stat
import struct
import sys
import termios
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from asgiref.sync import SyncToAsync
from django.core.handlers.asgi import ASGIRequest
from django.db import connections

from fetcher.api.db import in_stream_thread
from fetcher.conf import fetcher_settings

logger = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes that are handed to the server at a time: what the write timeout is measured on, and what needs no stream."""


async def sent(request: ASGIRequest, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the chunks, each made in a thread, in pieces that the reader takes in time or is cut off."""
    release_request_thread()
    reader = _Reader(request, fetcher_settings().write_timeout)
    while (chunk := await in_stream_thread(next, chunks, None)) is not None:
        for start in range(0, len(chunk), PIECE):
            with reader.takes():
                yield chunk[start : start + PIECE]


def release_request_thread() -> None:
    """End the thread that Django keeps for the current request, once its database connections are closed.

    Nothing waits for it. What still needs such a thread, when the request ends, gets another one. An executor that a
    ``ThreadSensitiveContext`` was given belongs to its giver and stays.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is None or getattr(context, "_executor", None) is not None:
        return
    executor = SyncToAsync.context_to_thread_executor.pop(context, None)
    if executor is not None:
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)


class _Reader:
    """Watches whether the reader of an answer takes anything of it."""

    def __init__(self, request: ASGIRequest, patience: float) -> None:
        self._request = request
        self._patience = patience
        self._task = asyncio.current_task()

    @contextlib.contextmanager
    def takes(self) -> Iterator[None]:
        """Cut the reader off if it takes nothing for ``patience`` seconds of the block, in which the server waits."""
        self._unread: int | None = -1
        self._set_timer()
        try:
            yield
        finally:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience / 2, self._look)

    def _look(self) -> None:
        # The server waits until a good part of the system's buffer is free, which can take a slow reader minutes.
        before, self._unread = self._unread, unread_bytes(self._request.scope)
        if before != self._unread:
            self._set_timer()
            return
        logger.warning("%r: the reader took nothing for %g s and was cut off", self._request.path, self._patience)
        if self._task is not None:
            self._task.cancel()  # Django ends the request as when the client disconnects
        reset_connection(self._request.scope)


def unread_bytes(scope: Mapping[str, Any]) -> int | None:
    """Return how many bytes a request's client has not acknowledged; None if its connection is not this process's."""
    with _connection(scope) as found:
        if found is None:
            return None
        with contextlib.suppress(OSError):
            return int.from_bytes(fcntl.ioctl(found, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return None


def reset_connection(scope: Mapping[str, Any]) -> bool:
    """Reset the connection that a request came on; return whether there was one.

    ASGI can end an answer, not close a connection: the server would keep it, and what is buffered in it, for as long as
    the other side does not read. Behind a proxy no connection is found, and the proxy has a timeout of its own. One of
    HTTP/2 carries other answers as well and stays.
    """
    with _connection(scope) as found:
        if found is None or scope.get("http_version") == "2":
            return False
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            found.shutdown(socket.SHUT_RDWR)  # the server sees the end, and its close discards what is buffered
        return True


@contextlib.contextmanager
def _connection(scope: Mapping[str, Any]) -> Iterator[socket.socket | None]:
    """Give this process's socket whose peer is the request's client, at the port that it asked; None if there is none.

    Only descriptors of sockets are looked at, and none is duplicated: closing a second descriptor of SQLite's file
    would drop the locks that this process has on it.
    """
    client, server = scope.get("client") or (), scope.get("server") or ()
    wanted = [str(part) for part in (*client[:2], *server[1:2])]  # granian gives ports as text
    for number in _open_descriptors() if len(wanted) == 3 else ():
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            found = socket.socket(fileno=number)
        except OSError:  # closed since
            continue
        try:
            if _ends(found) == wanted:
                yield found
                return
        finally:
            found.detach()  # the descriptor is the server's
    yield None


def _ends(found: socket.socket) -> list[str]:
    try:
        return [str(part) for part in (*found.getpeername()[:2], found.getsockname()[1])]
    except (OSError, IndexError):  # it is not connected, or not of the Internet
        return []


def _open_descriptors() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    except OSError:
        return []
