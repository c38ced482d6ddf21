"""The hostile server, in a process of its own so that only the client's work is measured in the client.

``python -m tests.hostile.peer`` prints its ports. The first expects a request, whose path names the reply. Each reply
to a TLS handshake has a port of its own (``NAME=PORT``).
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.hostile import REPLIES
from tests.hostile.reply import Reply, Script, answer
from tests.support.processes import ROOT


@dataclass(frozen=True, slots=True)
class Peer:
    """A running hostile server."""

    port: int
    tls_ports: dict[str, int]

    def url(self, reply: Reply, address: str = "127.0.0.1") -> str:
        """Return the URL at which a reply is played."""
        if reply.is_tls:
            return f"https://{address}:{self.tls_ports[reply.name]}/{reply.name}"
        return f"http://{address}:{self.port}/{reply.name}"


@contextlib.contextmanager
def running_peer() -> Iterator[Peer]:
    """Run the server until the block ends."""
    command = [sys.executable, "-m", "tests.hostile.peer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=ROOT, text=True) as process:
        try:
            assert process.stdout is not None
            names = process.stdout.readline().split()
            port, tls = int(names[0]), dict(pair.split("=") for pair in names[1:])
            yield Peer(port, {name: int(own) for name, own in tls.items()})
        finally:
            process.kill()


async def _play(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await script(reader, writer)
        await _linger(reader, writer)
    writer.transport.abort()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close so that the client gets all that was sent: a socket with unread input is reset."""
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()
        async with asyncio.timeout(5):
            while await reader.read(2**16):
                pass


def _serve_requests(scripts: Mapping[str, Script]) -> Script:
    """Return the handler of connections on which a request comes first; its path names the reply."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            head = await reader.readuntil(b"\r\n\r\n")
            name = head.split(b" ")[1].split(b"?")[0].decode("latin-1").strip("/")
            await _play(scripts.get(name, _there), reader, writer)
        writer.transport.abort()

    return handle


async def _there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer where a redirect led."""
    writer.write(answer(b"Connection: close", body=b"there"))
    await writer.drain()


def _speak_at_once(script: Script) -> Script:
    """Return the handler of connections on which the client waits for TLS."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await _play(script, reader, writer)
        writer.transport.abort()

    return handle


async def _main() -> None:
    scripts = {reply.name: reply.script() for reply in REPLIES}
    # All of 127.0.0.0/8, so that a test can be many hosts.
    server = await asyncio.start_server(_serve_requests(scripts), "0.0.0.0", 0, backlog=1024, limit=2**17)
    ports = [str(_port(server))]
    for reply in REPLIES:
        if reply.is_tls:
            own = await asyncio.start_server(_speak_at_once(scripts[reply.name]), "127.0.0.1", 0, backlog=1024)
            ports.append(f"{reply.name}={_port(own)}")
    print(*ports, flush=True)
    await asyncio.Event().wait()


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


if __name__ == "__main__":
    asyncio.run(_main())
