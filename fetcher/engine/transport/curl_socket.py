"""A socket as libcurl wants it, and how long it took to connect."""

from __future__ import annotations

import os
import socket

import pycurl

from fetcher.engine.transport.wire import Wire


class OpenedSocket:
    """A new socket. libcurl takes a copy of its descriptor, so this one is closed when it is let go."""

    __slots__ = ("_socket",)

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    def fileno(self) -> int:
        """Return the descriptor, of which libcurl makes a copy."""
        return self._socket.fileno()

    def __del__(self) -> None:
        self._socket.close()


def open_socket(family: int, kind: int, protocol: int) -> OpenedSocket:
    """Return a new socket that can be copied. Raises OSError."""
    opened = OpenedSocket(socket.socket(family, kind, protocol))
    os.close(os.dup(opened.fileno()))  # as pycurl will, which does not say why where it cannot
    return opened


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
