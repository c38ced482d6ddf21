"""A server of one's own on loopback, scripted in the test that uses it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from fetcher.engine.addresses import AddressPolicy, AllowedNetwork

LOOPBACK = AddressPolicy((AllowedNetwork.parse("127.0.0.0/8"), AllowedNetwork.parse("::1")))
TIMEOUTS = {"connect": 5.0, "read": 5.0, "write": 5.0}

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Counts connections and requests; ``handler`` is called for each connection."""

    port: int = 0
    accepted: int = 0
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def read_head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head


Serve = Callable[..., Awaitable[Server]]
Transport = httpx.AsyncBaseTransport
MakeTransport = Callable[..., Transport]


def ok(body: bytes = b"hello", *headers: bytes) -> bytes:
    head = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - nothing to open while counting


async def closed_down_to(count: int) -> bool:
    """Wait until no more files are open than ``count``: on a busy machine a server closes its end late."""
    for _ in range(1000):
        if open_files() <= count:
            return True
        await asyncio.sleep(0.01)
    return False


async def fetch(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    """Return the answer and its whole raw body."""
    response = await transport.handle_async_request(request)
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = b"".join([chunk async for chunk in response.stream])
    await response.aclose()
    return response, body
