"""A socket as libcurl wants it, and how long it took to connect."""

from __future__ import annotations

import socket

import pycurl

from fetcher.engine.transport.wire import Wire


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


def note_phases(curl: pycurl.Curl, wire: Wire, *, in_handshake: bool) -> bool:
    """Note how long a new connection took; whether there is one. ``in_handshake``: that is as far as it came."""
    connected, secured = curl.getinfo(pycurl.CONNECT_TIME), curl.getinfo(pycurl.APPCONNECT_TIME)
    if connected:
        wire.connect = connected
        if in_handshake:
            secured = curl.getinfo(pycurl.TOTAL_TIME)
    if secured:
        wire.tls = max(0.0, secured - connected)
    return bool(connected)
