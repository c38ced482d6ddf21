"""A server in a thread that answers each request with the bytes at the number in its path, and closes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence


class RawServer:
    """``answers`` may be replaced while it runs."""

    def __init__(self) -> None:
        self.answers: Sequence[bytes] = ()
        self.port = 0

    def url(self, number: int) -> str:
        """Return the URL of an answer."""
        return f"http://127.0.0.1:{self.port}/{number}"

    async def serve(self, started: threading.Event, stopped: asyncio.Event) -> None:
        """Serve until the event is set."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            started.set()
            await stopped.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError, IndexError):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answers[int(head.split(b" ")[1].strip(b"/").split(b"?")[0])])
            await writer.drain()
            writer.write_eof()
            while await reader.read(2**16):
                pass
        writer.transport.abort()


@contextlib.contextmanager
def running_raw_server() -> Iterator[RawServer]:
    """Run a server until the block ends."""
    server, started = RawServer(), threading.Event()
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()

    def work() -> None:
        loop.run_until_complete(server.serve(started, stopped))
        loop.close()

    thread = threading.Thread(target=work, name="raw-server")
    thread.start()
    try:
        started.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
