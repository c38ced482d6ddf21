"""Answers: JSON with an ETag, and streams that suit the server that asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response

from fetcher.api.streaming import PIECE, sent
from fetcher.payloads import encode


def json_response(request: HttpRequest, payload: Any, headers: Mapping[str, str] | None = None) -> HttpResponseBase:
    """Answer with JSON and its ETag, or with 304 where If-None-Match names it (RFC 9110, section 13.1.2)."""
    content = encode(payload)
    etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
    sent_headers = {
        "Content-Type": "application/json", "ETag": etag, "Cache-Control": "private, no-cache", **(headers or {})
    }  # fmt: skip
    unchanged = get_conditional_response(request, etag=etag, response=HttpResponse(headers=sent_headers))
    if unchanged is not None and unchanged.status_code != HTTPStatus.OK:
        return unchanged
    return content_response(request, content, sent_headers)


def content_response(request: HttpRequest, content: bytes, headers: Mapping[str, str]) -> HttpResponseBase:
    """Answer with bytes in memory. What the server may not take at once is a stream, so that its reader can be slow."""
    if len(content) <= PIECE or not isinstance(request, ASGIRequest):
        return HttpResponse(content, headers=headers)
    return streaming_response(request, lambda: iter((content,)), {**headers, "Content-Length": str(len(content))})


def streaming_response(
    request: HttpRequest, chunks: Callable[[], Iterator[bytes]], headers: Mapping[str, str]
) -> HttpResponseBase:
    """Answer with chunks as they are made, in constant memory under ASGI and WSGI.

    Under the wrong kind of server Django would collect a stream as a whole before it sends the first byte, so ASGI gets
    an async iterator and WSGI a plain one.
    """
    if request.method == "HEAD":
        return HttpResponse(headers=dict(headers))
    source = chunks()
    return StreamingHttpResponse(sent(request, source) if isinstance(request, ASGIRequest) else source, headers=headers)
