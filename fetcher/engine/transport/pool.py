"""Connections kept open between requests."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from fetcher.engine.transport.http1 import Connection

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class IdlePool:
    """Idle connections by origin: the one used last is taken first, the one used longest ago is closed first.

    At most ``most`` over all origins, each for at most ``expiry`` seconds. It bounds only what is idle; how many are
    in use is for the engine's gate to say. Every operation takes constant time.
    """

    def __init__(self, most: int, expiry: float = 30.0) -> None:
        self._most = most
        self._expiry = expiry
        self._by_origin: dict[Origin, deque[Connection]] = {}
        # In the order of their last use, so the oldest of all is also the oldest of its origin.
        self._by_age: OrderedDict[Connection, tuple[Origin, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_age)

    def take(self, origin: Origin) -> Connection | None:
        """Return an open connection to ``origin``, or None. Closes those that ended or expired."""
        self._expire()
        stack = self._by_origin.get(origin)
        while stack:
            connection = stack.pop()
            del self._by_age[connection]
            if not stack:
                del self._by_origin[origin]
            if connection.stream.is_quiet:
                return connection
            connection.close()
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep an idle connection."""
        self._expire()
        while len(self._by_age) >= self._most:
            self._close_oldest()
        self._by_age[connection] = (origin, time.monotonic() + self._expiry)
        self._by_origin.setdefault(origin, deque()).append(connection)

    def close(self) -> None:
        """Close all of them."""
        while self._by_age:
            self._close_oldest()

    def _expire(self) -> None:
        now = time.monotonic()
        while self._by_age:
            _, expires = next(iter(self._by_age.values()))
            if now < expires:
                return
            self._close_oldest()

    def _close_oldest(self) -> None:
        connection, (origin, _) = self._by_age.popitem(last=False)
        stack = self._by_origin[origin]
        stack.popleft()
        if not stack:
            del self._by_origin[origin]
        connection.close()
