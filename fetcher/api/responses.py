"""Answers: JSON with an ETag, and streams that suit the server that asks."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response

from fetcher.api.db import in_thread
from fetcher.payloads import encode


def json_response(request: HttpRequest, payload: Any, headers: Mapping[str, str] | None = None) -> HttpResponseBase:
    """Answer with JSON and its ETag, or with 304 where If-None-Match names it (RFC 9110, section 13.1.2)."""
    content = encode(payload)
    etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
    response = HttpResponse(
        content,
        content_type="application/json",
        headers={"ETag": etag, "Cache-Control": "private, no-cache", **(headers or {})},
    )
    return get_conditional_response(request, etag=etag, response=response) or response


def streaming_response(
    request: HttpRequest, chunks: Callable[[], Iterator[bytes]], headers: Mapping[str, str]
) -> HttpResponseBase:
    """Answer with chunks as they are made, in constant memory under ASGI and WSGI.

    Under the wrong kind of server Django would collect a stream as a whole before it sends the first byte, so ASGI gets
    an async iterator (each chunk made in a thread) and WSGI a plain one.
    """
    if request.method == "HEAD":
        return HttpResponse(headers=dict(headers))
    source = chunks()
    return StreamingHttpResponse(_threaded(source) if isinstance(request, ASGIRequest) else source, headers=headers)


async def _threaded(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await in_thread(next, chunks, None)) is not None:
        yield chunk
