"""Idle connections, kept for the next request to their origin."""

from __future__ import annotations

from collections import OrderedDict

from fetcher.engine.transport.http1 import Connection, Place


class IdlePool:
    """At most ``most`` idle connections: an origin's last used is taken first, the longest unused is closed first.

    httpcore's own pool goes through all of its connections twice for each request. Here every operation takes constant
    time. How many are in use is for the engine's gate to bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_place: dict[Place, list[Connection]] = {}
        self._by_age: OrderedDict[Connection, None] = OrderedDict()

    def take(self, place: Place) -> Connection | None:
        """Return a connection that is open and has nothing to be read, or None. Closes those that are of no use."""
        while self._by_age and next(iter(self._by_age)).has_expired():
            self._close_oldest()
        while place in self._by_place:
            connection = self._remove(place, -1)
            if not connection.has_expired():
                return connection
            connection.peer.close()
        return None

    def put(self, connection: Connection) -> None:
        """Keep an idle connection."""
        self._by_age[connection] = None
        self._by_place.setdefault(connection.place, []).append(connection)
        if len(self._by_age) > self._most:
            self._close_oldest()

    def close(self) -> None:
        """Close all of them."""
        while self._by_age:
            self._close_oldest()

    def _close_oldest(self) -> None:
        # The order is the same in both: the oldest of all is the oldest of its origin.
        self._remove(next(iter(self._by_age)).place, 0).peer.close()

    def _remove(self, place: Place, index: int) -> Connection:
        stack = self._by_place[place]
        connection = stack.pop(index)
        del self._by_age[connection]
        if not stack:
            del self._by_place[place]
        return connection
