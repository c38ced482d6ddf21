"""Behaviours that break the protocol or the connection; the well-behaved ones are in ``fetcher.demo.behaviours``."""

from __future__ import annotations

from fetcher.demo.exchange import Exchange, Handler

HALF = b"half of the body"


async def hang(exchange: Exchange) -> None:
    """``/hang/N``: takes the request and never answers."""
    await exchange.wait(None)


async def stall(exchange: Exchange) -> None:
    """``/stall/N``: sends the head and half of the body, then nothing more."""
    await _half(exchange)
    await exchange.wait(None)


async def reset(exchange: Exchange) -> None:
    """``/reset/N?times=0``: resets the connection without an answer; after ``times`` (0: never) for each path, 200."""
    times = exchange.option("times", 0)
    if times and exchange.visit() > times:
        await exchange.answer_json({"recovered": exchange.segment()})
    else:
        exchange.reset()


async def reset_body(exchange: Exchange) -> None:
    """``/reset-body/N``: resets the connection in the middle of the body."""
    await _half(exchange)
    await exchange.wait(0.05)  # else the client may lose the head as well
    exchange.reset()


async def hang_up(exchange: Exchange) -> None:
    """``/hang-up/N``: closes the connection without an answer."""
    exchange.keep_alive = False


async def idle_close(exchange: Exchange) -> None:
    """``/idle-close/N``: 200, then closes the connection although it promised to keep it."""
    await exchange.answer_json({"closes": exchange.segment()})
    exchange.keep_alive = False


async def truncated(exchange: Exchange) -> None:
    """``/truncated/N``: closes the connection before the Content-Length is reached."""
    await _half(exchange)
    exchange.keep_alive = False


async def truncated_chunk(exchange: Exchange) -> None:
    """``/truncated-chunk/N``: closes the connection before the last chunk."""
    await exchange.head(200, [("Transfer-Encoding", "chunked")])
    await exchange.chunk(HALF)
    exchange.keep_alive = False


async def bad_chunk(exchange: Exchange) -> None:
    """``/bad-chunk/N``: a chunk whose length is no number."""
    await exchange.head(200, [("Transfer-Encoding", "chunked")])
    await exchange.send(b"zz\r\nnonsense\r\n")
    exchange.keep_alive = False


async def two_lengths(exchange: Exchange) -> None:
    """``/two-lengths/N``: two Content-Length headers that differ (RFC 9112, section 6.3)."""
    await exchange.head(200, [("Content-Length", "5"), ("Content-Length", "6")])
    await exchange.send(b"12345")
    exchange.keep_alive = False


async def garbage(exchange: Exchange) -> None:
    """``/garbage/N``: bytes that are no HTTP."""
    await exchange.send(b"\x00\x01\x02 this is no HTTP at all\r\n\r\n")
    exchange.keep_alive = False


async def _half(exchange: Exchange) -> None:
    await exchange.head(200, [("Content-Length", str(2 * len(HALF)))])
    await exchange.send(HALF)


FAULTS: dict[str, Handler] = {
    "hang": hang,
    "stall": stall,
    "reset": reset,
    "reset-body": reset_body,
    "hang-up": hang_up,
    "idle-close": idle_close,
    "truncated": truncated,
    "truncated-chunk": truncated_chunk,
    "bad-chunk": bad_chunk,
    "two-lengths": two_lengths,
    "garbage": garbage,
}
"""The handlers by the first segment of their path, without slashes."""
