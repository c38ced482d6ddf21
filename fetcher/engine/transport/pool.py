"""Idle connections, kept for the next request to their origin."""

from __future__ import annotations

from collections import OrderedDict

from fetcher.engine.transport.http1 import Connection

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class IdlePool:
    """At most ``most`` idle connections: an origin's last used is taken first, the longest unused is closed first.

    httpcore's own pool goes through all of its connections twice for each request, and through all of them for each of
    those that are idle. Here every operation takes constant time. How many are in use is for the engine's gate to bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_origin: dict[Origin, list[Connection]] = {}
        self._by_age: OrderedDict[Connection, Origin] = OrderedDict()

    def take(self, origin: Origin) -> Connection | None:
        """Return a connection to ``origin`` that is open and has nothing to be read, or None. Closes the others."""
        while self._by_age and next(iter(self._by_age)).has_expired():
            self._close_oldest()
        stack = self._by_origin.get(origin)
        while stack:
            connection = stack.pop()
            del self._by_age[connection]
            if not stack:
                del self._by_origin[origin]
            if not connection.has_expired():
                return connection
            connection.stream.close()
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep an idle connection."""
        self._by_age[connection] = origin
        self._by_origin.setdefault(origin, []).append(connection)
        if len(self._by_age) > self._most:
            self._close_oldest()

    def close(self) -> None:
        """Close all of them."""
        while self._by_age:
            self._close_oldest()

    def _close_oldest(self) -> None:
        connection, origin = self._by_age.popitem(last=False)
        stack = self._by_origin[origin]
        stack.remove(connection)  # the first, for their order is the same
        if not stack:
            del self._by_origin[origin]
        connection.stream.close()
