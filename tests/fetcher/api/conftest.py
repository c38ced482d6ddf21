"""One caller for both kinds of server: every test that uses it runs over ASGI and over WSGI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    streamed: bool

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        assert self.headers["Content-Type"] == "application/problem+json"
        return str(self.json()["detail"])


class _AsgiClient(AsyncClient):
    peer = "127.0.0.1"

    def _base_scope(self, **request: Any) -> dict[str, Any]:
        scope = {**super()._base_scope(**request), "client": [self.peer, 5000]}
        if [name for name, _ in scope["headers"]].count(b"host") > 1:
            scope["headers"].remove((b"host", b"testserver"))  # which Django's client sends beside a test's own
        return scope


class Caller:
    """Sends one request to the project, as the server of its kind would hand it over."""

    def __init__(self, server: str) -> None:
        self.server = server
        self._client: Any = (_AsgiClient if server == "asgi" else Client)(enforce_csrf_checks=True)

    def log_in(self, user: User) -> None:
        self._client.force_login(user)

    def csrf_token(self) -> str:
        """Send a CSRF cookie from now on, and return the token that goes with it."""
        token = "a" * 32
        self._client.cookies["csrftoken"] = token
        return token

    def get(self, path: str, *, peer: str = "127.0.0.1", method: str = "GET", **headers: str) -> Answer:
        return self._call(method, path, b"", "application/octet-stream", peer, headers)

    def post(
        self,
        path: str,
        body: Any = b"",
        *,
        media_type: str = "application/json",
        peer: str = "127.0.0.1",
        **headers: str,
    ) -> Answer:
        """Send bytes as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._call("POST", path, content, media_type, peer, headers)

    def _call(
        self, method: str, path: str, body: bytes, media_type: str, peer: str, headers: Mapping[str, str]
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.server == "asgi":
            return async_to_sync(self._over_asgi)(method, path, body, media_type, sent, peer)
        response = self._client.generic(method, path, body, media_type, headers=sent, REMOTE_ADDR=peer)
        content = b"".join(response.streaming_content) if response.streaming else response.content
        return Answer(response.status_code, response.headers, content, response.streaming)

    async def _over_asgi(
        self, method: str, path: str, body: bytes, media_type: str, headers: dict[str, str], peer: str
    ) -> Answer:
        self._client.peer = peer
        response = await self._client.generic(method, path, body, media_type, headers=headers)
        if response.streaming:
            assert response.is_async, "under ASGI a plain iterator would be collected as a whole"
            content = b"".join([chunk async for chunk in response.streaming_content])
        else:
            content = response.content
        return Answer(response.status_code, response.headers, content, response.streaming)


@pytest.fixture(params=["asgi", "wsgi"])
def api(request: pytest.FixtureRequest, transactional_db: None) -> Caller:
    return Caller(request.param)
