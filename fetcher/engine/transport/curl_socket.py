"""A socket as libcurl wants it."""

from __future__ import annotations

import socket


class OpenedSocket:
    """A new socket. libcurl takes a copy of its descriptor, so this one is closed when it is let go. Raises OSError."""

    __slots__ = ("_socket",)

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self._socket = socket.socket(family, kind, protocol)

    def fileno(self) -> int:
        """Return the descriptor, of which libcurl makes a copy."""
        return self._socket.fileno()

    def __del__(self) -> None:
        self._socket.close()
