"""How the scripted origin behaves, by the first part of the path.

Numbers in a path (``/ok/17``) only tell targets apart, unless the text says otherwise. Query parameters are whole
numbers and have defaults, so that every path works as it stands.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable
from email.utils import formatdate

import brotli

from fetcher.demo.exchange import BadRequest, Exchange, Handler

BEHAVIOURS: dict[str, Handler] = {}
"""The handlers by the first segment of their path, without slashes."""

_CHUNK = 16 * 2**10
_MODIFIED = formatdate(1_700_000_000, usegmt=True)


def _at(prefix: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        BEHAVIOURS[prefix] = handler
        return handler

    return register


def _filler(length: int) -> bytes:
    return (b"0123456789abcdef" * (length // 16 + 1))[:length]


@_at("ok")
async def ok(exchange: Exchange) -> None:
    """``/ok/N``: 200 with a little JSON."""
    await exchange.answer_json({"ok": exchange.segment()})


@_at("slow")
async def slow(exchange: Exchange) -> None:
    """``/slow/N?ms=300``: 200 after so many milliseconds."""
    await exchange.wait(exchange.option("ms", 300) / 1000)
    await exchange.answer_json({"slow": exchange.segment()})


@_at("status")
async def status(exchange: Exchange) -> None:
    """``/status/CODE``: an answer with that status, from 200 to 599."""
    code = exchange.segment(default=200)
    if not 200 <= code <= 599:
        raise BadRequest("the status must be between 200 and 599")
    await exchange.answer_json({"status": code}, code)


@_at("missing")
async def missing(exchange: Exchange) -> None:
    """``/missing/N``: 404."""
    await exchange.answer_json({"missing": exchange.segment()}, 404)


@_at("flaky")
async def flaky(exchange: Exchange) -> None:
    """``/flaky/N?times=1&status=503``: that status so many times for each path, then 200."""
    if exchange.visit() <= exchange.option("times", 1):
        await exchange.answer_json({"flaky": exchange.segment()}, exchange.option("status", 503))
    else:
        await exchange.answer_json({"recovered": exchange.segment()})


@_at("retry-after")
async def retry_after(exchange: Exchange) -> None:
    """``/retry-after/N?seconds=1&times=1&status=429``: asks for a pause so many times for each path, then 200."""
    if exchange.visit() <= exchange.option("times", 1):
        pause = ("Retry-After", str(exchange.option("seconds", 1)))
        await exchange.answer_json({"busy": exchange.segment()}, exchange.option("status", 429), [pause])
    else:
        await exchange.answer_json({"served": exchange.segment()})


@_at("etag")
async def etag(exchange: Exchange) -> None:
    """``/etag/N?version=1``: 200 with an ETag, 304 to an If-None-Match that names it (RFC 9110, section 13.1.2)."""
    tag = f'"{exchange.token}-{exchange.segment()}-{exchange.option("version", 1)}"'
    sent = [part.strip().removeprefix("W/") for part in exchange.request.header("If-None-Match").split(",")]
    if tag in sent:
        await exchange.answer(304, headers=[("ETag", tag)])
    else:
        await exchange.answer_json({"etag": exchange.segment()}, headers=[("ETag", tag)])


@_at("last-modified")
async def last_modified(exchange: Exchange) -> None:
    """``/last-modified/N``: 200 with a date, 304 to an If-Modified-Since that repeats it."""
    if exchange.request.header("If-Modified-Since") == _MODIFIED:
        await exchange.answer(304, headers=[("Last-Modified", _MODIFIED)])
    else:
        await exchange.answer_json({"modified": exchange.segment()}, headers=[("Last-Modified", _MODIFIED)])


@_at("redirect")
async def redirect(exchange: Exchange) -> None:
    """``/redirect/HOPS/N?status=302``: so many redirects, by relative Locations, then ``/ok/N``."""
    hops, number = exchange.segment(), exchange.segment(1)
    query = exchange.request.target.partition("?")[2]
    onward = f"/redirect/{hops - 1}/{number}" + (f"?{query}" if query else "") if hops > 1 else f"/ok/{number}"
    await exchange.answer_json({"hops": hops}, exchange.option("status", 302), [("Location", onward)])


@_at("redirect-loop")
async def redirect_loop(exchange: Exchange) -> None:
    """``/redirect-loop/N``: redirects to itself."""
    await exchange.answer_json({}, 302, [("Location", exchange.request.target)])


@_at("redirect-to")
async def redirect_to(exchange: Exchange) -> None:
    """``/redirect-to?url=URL&status=302``: one redirect to whatever the (percent-encoded) URL says."""
    url = exchange.request.query.get("url", "/ok/0")
    await exchange.answer_json({"to": url}, exchange.option("status", 302), [("Location", url)])


async def _encoded(exchange: Exchange, coding: str, compress: Callable[[bytes], bytes]) -> None:
    body = b'{"encoded": "%b", "number": %d}' % (coding.encode(), exchange.segment())
    await exchange.answer(200, compress(body), [("Content-Encoding", coding)])


@_at("gzip")
async def gzipped(exchange: Exchange) -> None:
    """``/gzip/N``: JSON, compressed whether asked for or not."""
    await _encoded(exchange, "gzip", gzip.compress)


@_at("deflate")
async def deflated(exchange: Exchange) -> None:
    """``/deflate/N``: the same in the zlib format."""
    await _encoded(exchange, "deflate", zlib.compress)


@_at("brotli")
async def brotli_coded(exchange: Exchange) -> None:
    """``/brotli/N``: the same in Brotli."""
    await _encoded(exchange, "br", brotli.compress)


@_at("gzip-bomb")
async def gzip_bomb(exchange: Exchange) -> None:
    """``/gzip-bomb?bytes=10000000``: zeros, about a thousand times smaller on the wire."""
    length = min(exchange.option("bytes", 10_000_000), 2**30)
    squeezer = zlib.compressobj(9, wbits=31)
    parts = [squeezer.compress(bytes(min(2**20, length - start))) for start in range(0, length, 2**20)]
    await exchange.answer(200, b"".join([*parts, squeezer.flush()]), [("Content-Encoding", "gzip")])


@_at("bad-gzip")
async def bad_gzip(exchange: Exchange) -> None:
    """``/bad-gzip/N``: says gzip and is not."""
    await exchange.answer(200, b"this is not gzip", [("Content-Encoding", "gzip")])


@_at("bytes")
async def plain_bytes(exchange: Exchange) -> None:
    """``/bytes/LENGTH``: so many bytes (at most 64 MiB) with a Content-Length."""
    length = min(exchange.segment(default=1024), 64 * 2**20)
    await exchange.answer(200, _filler(length), content_type="application/octet-stream")


@_at("big")
async def big(exchange: Exchange) -> None:
    """``/big/N?bytes=1048576&declared=0``: streams that much, chunked; with ``declared=1`` with a Content-Length."""
    length, declared = exchange.option("bytes", 2**20), exchange.option("declared", 0)
    send = exchange.send if declared else exchange.chunk
    await exchange.head(200, [("Content-Length", str(length)) if declared else ("Transfer-Encoding", "chunked")])
    for start in range(0, length, _CHUNK):
        await send(_filler(min(_CHUNK, length - start)))
    if not declared:
        await exchange.chunk(b"")


@_at("drip")
async def drip(exchange: Exchange) -> None:
    """``/drip/N?bytes=10&ms=50``: a body byte by byte, with so many milliseconds before each."""
    length, pause = exchange.option("bytes", 10), exchange.option("ms", 50) / 1000
    await exchange.head(200, [("Content-Length", str(length))])
    for _ in range(length):
        await exchange.wait(pause)
        await exchange.send(b".")


@_at("echo")
async def echo(exchange: Exchange) -> None:
    """``/echo``: JSON with the method, target, headers (a list of pairs) and the body in base64."""
    request = exchange.request
    body = base64.b64encode(request.body).decode()
    await exchange.answer_json(
        {"method": request.method, "target": request.target, "headers": request.headers, "body": body}
    )


@_at("cookie")
async def cookie(exchange: Exchange) -> None:
    """``/cookie``: sets one, and answers with the Cookie header that it got."""
    received = exchange.request.header("Cookie")
    await exchange.answer_json({"cookie": received}, headers=[("Set-Cookie", "session=42; Path=/")])


@_at("headers-flood")
async def headers_flood(exchange: Exchange) -> None:
    """``/headers-flood?count=1000&bytes=1000``: so many headers of that size in the answer."""
    value = "x" * exchange.option("bytes", 1000)
    flood = [(f"X-Flood-{number}", value) for number in range(exchange.option("count", 1000))]
    await exchange.answer_json({}, headers=flood)


@_at("interim")
async def interim(exchange: Exchange) -> None:
    """``/interim/N``: a 103 before the 200 (RFC 8297)."""
    await exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    await exchange.answer_json({"interim": exchange.segment()})


@_at("until-close")
async def until_close(exchange: Exchange) -> None:
    """``/until-close/N``: a body that only the end of the connection delimits."""
    exchange.keep_alive = False
    await exchange.head(200, [("Content-Type", "application/json")])
    await exchange.send(b'{"until": "close"}')
