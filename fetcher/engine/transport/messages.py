"""httpx's Request and Response at next to no cost.

``httpx.Request(...)`` parses the URL and copies the headers, which takes longer than libcurl needs for the whole
exchange. Here the URL was parsed before, and what httpx would make of it all is made only for whoever looks at it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

import httpx

from fetcher.engine.transport.head import Head
from fetcher.engine.types import Headers
from fetcher.engine.urls import Url

RawHeaders = tuple[tuple[bytes, bytes], ...]


class PreparedRequest(httpx.Request):
    """A request for a URL that was parsed by ``parse_url``, with headers that may be sent as they are.

    To everybody else it is an ordinary request. ``prepared`` are the headers without Host and Content-Length, the same
    object for requests that carry the same.
    """

    def __init__(
        self, method: str, target: Url, prepared: RawHeaders, content: bytes | None, extensions: dict[str, Any]
    ) -> None:
        # The parent's work is done by the properties, when somebody asks.
        self.method = method
        self.target = target
        self.prepared = prepared
        self.extensions = extensions
        self.content_sent = content
        self._url: httpx.URL | None = None
        self._headers: httpx.Headers | None = None
        self._content = content or b""
        self._stream: httpx.ByteStream | None = None

    @property
    def url(self) -> httpx.URL:  # type: ignore[override]
        """The URL, parsed again. Raises httpx.InvalidURL."""
        if self._url is None:
            self._url = httpx.URL(self.target.href)
        return self._url

    @property
    def headers(self) -> httpx.Headers:  # type: ignore[override]
        """All headers, Host and Content-Length included."""
        if self._headers is None:
            request = httpx.Request(self.method, self.url, headers=list(self.prepared), content=self.content_sent)
            self._headers = request.headers
        return self._headers

    @property
    def stream(self) -> httpx.ByteStream:  # type: ignore[override]
        """The body."""
        if self._stream is None:
            self._stream = httpx.ByteStream(self._content)
        return self._stream


class WholeBody(httpx.AsyncByteStream):
    """A body that came as a whole, or ``failure`` says how it broke after ``data``. There is nothing to close."""

    def __init__(self, data: bytes, failure: Exception | None = None) -> None:
        self.data = data
        self.failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.data:
            yield self.data
        if self.failure is not None:
            raise self.failure


class Answer(httpx.Response):
    """A response as libcurl gave it. To everybody else it is an ordinary one; ``fields`` are its headers as text."""

    # What the parent's __init__ sets for each, without what it would look for in headers and content.
    next_request = None
    is_closed = is_stream_consumed = False
    default_encoding = "utf-8"
    _request = None
    _num_bytes_downloaded = 0
    _made: httpx.Headers | None = None

    stream: httpx.AsyncByteStream

    def __init__(self, head: Head, stream: httpx.AsyncByteStream) -> None:
        self.status_code = head.status
        self.stream = stream
        self.fields = head.fields
        self._head = head

    @cached_property
    def extensions(self) -> dict[str, Any]:  # type: ignore[override]
        """HTTP's version and the reason phrase, as bytes."""
        return {"http_version": self._head.version, "reason_phrase": self._head.reason}

    @cached_property
    def history(self) -> list[httpx.Response]:  # type: ignore[override]
        """Redirects that led here: those that whoever followed them put in."""
        return []

    async def aclose(self) -> None:
        """Let the connection go."""
        if not self.is_closed:
            self.is_closed = True
            await self.stream.aclose()

    @property
    def headers(self) -> httpx.Headers:
        """All headers."""
        if self._made is None:
            self._made = httpx.Headers(list(self._head.headers))
        return self._made

    @headers.setter
    def headers(self, value: httpx.Headers) -> None:
        self._made = value


def response_fields(response: httpx.Response) -> Headers:
    """Return a response's headers as pairs of text, whichever transport it is from."""
    if isinstance(response, Answer):
        return response.fields
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw])
