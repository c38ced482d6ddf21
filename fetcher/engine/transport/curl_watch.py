"""Which sockets are ready: an epoll of our own that the event loop watches as one, or the loop itself."""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import TYPE_CHECKING, Protocol

import pycurl

if TYPE_CHECKING:
    from fetcher.engine.transport.curl_driver import Driver

_AT_ONCE = 512
"""Sockets that are asked for at a time."""

Events = list[tuple[int, int]]
"""Descriptors, and what libcurl is told that they are ready for."""


class Watch(Protocol):
    """Watches the sockets that libcurl waits for, and has the driver act."""

    def watch(self, descriptor: int, *, read: bool, write: bool) -> None:
        """Wait until a socket can be read from or written to."""

    def leave(self, descriptor: int) -> None:
        """Wait for a socket no more."""

    def poll(self) -> Events:
        """Return what libcurl waits for and is there."""

    def close(self) -> None:
        """Leave all sockets."""


class EpollWatch:
    """Sockets in an epoll whose descriptor is registered with the loop once.

    A socket that libcurl leaves stays in: the next request on a kept connection then costs one system call instead of
    two, and one that makes itself heard meanwhile is not used again.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._epoll = select.epoll()
        self._wanted: dict[int, int] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, descriptor: int, *, read: bool, write: bool) -> None:  # noqa: D102
        mask = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        self._wanted[descriptor] = mask
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:  # new, or another socket of the same number: a closed one leaves by itself
            self._epoll.register(descriptor, mask)

    def leave(self, descriptor: int) -> None:  # noqa: D102
        mask = self._wanted.pop(descriptor, 0)
        if mask != select.EPOLLIN:
            with contextlib.suppress(OSError):
                self._epoll.modify(descriptor, select.EPOLLIN)

    def poll(self) -> Events:
        """Return what libcurl waits for and is there."""
        events = []
        for descriptor, found in self._epoll.poll(0, _AT_ONCE):
            if descriptor in self._wanted:
                mask = _TRANSLATED.get(found)
                events.append((descriptor, _translated(found) if mask is None else mask))
                continue
            self._epoll.unregister(descriptor)
            # With HTTP/2 a server may well say something on an idle connection.
            if not self._driver.multiplexed or found & select.EPOLLHUP:
                self._driver.went_stale(descriptor)
        return events

    def close(self) -> None:  # noqa: D102
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        if not self._driver.is_kicked and (events := self.poll()):
            self._driver.act(events)


_TRANSLATED = {} if not hasattr(select, "epoll") else {
    select.EPOLLIN: pycurl.CSELECT_IN,
    select.EPOLLOUT: pycurl.CSELECT_OUT,
}  # fmt: skip
"""What nearly all events are."""


def _translated(found: int) -> int:
    mask = 0
    if found & (select.EPOLLIN | select.EPOLLHUP):
        mask |= pycurl.CSELECT_IN
    if found & select.EPOLLOUT:
        mask |= pycurl.CSELECT_OUT
    if found & select.EPOLLERR:
        mask |= pycurl.CSELECT_ERR
    return mask


class LoopWatch:
    """Sockets that the loop watches itself. Kept connections are watched by libcurl alone, when it takes one."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._watched: set[int] = set()

    def watch(self, descriptor: int, *, read: bool, write: bool) -> None:  # noqa: D102
        self.leave(descriptor)
        self._watched.add(descriptor)
        if read:
            self._loop.add_reader(descriptor, self._driver.act, [(descriptor, pycurl.CSELECT_IN)])
        if write:
            self._loop.add_writer(descriptor, self._driver.act, [(descriptor, pycurl.CSELECT_OUT)])

    def leave(self, descriptor: int) -> None:  # noqa: D102
        if descriptor in self._watched:
            self._watched.discard(descriptor)
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    def poll(self) -> Events:  # noqa: D102
        return []  # the loop tells

    def close(self) -> None:  # noqa: D102
        for descriptor in list(self._watched):
            self.leave(descriptor)
