"""A CurlMulti driven by the running event loop.

libcurl says which sockets it waits for and when it wants to be called again. The sockets go into an epoll of our own
whose descriptor the loop watches as one: a loop that watched each of them would be told of every change, for every
request. Where there is no epoll the loop watches them itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from typing import Protocol

import pycurl

_AT_ONCE = 512
"""Sockets that are served before other tasks have their turn."""

Place = tuple[str, int]
"""An address and a port."""


class Transfer(Protocol):
    """A request under way. The driver calls these outside of libcurl."""

    curl: pycurl.Curl

    def news(self) -> None:
        """Hear that the head of the answer is complete, or that more of its body is here."""

    def ended(self, code: int, message: str) -> None:
        """Hear that it is over, and out of the driver; ``code`` is libcurl's, 0 where all went well."""


class Driver:
    """Runs transfers. Belongs to one event loop.

    ``connections`` is how many are kept, those in use included; ``multiplexed`` says that one may serve several
    requests at a time (HTTP/2). ``now`` is the loop's time at which what happens happened: callbacks may read it for
    nothing.
    """

    def __init__(self, connections: int, *, multiplexed: bool = False, epoll: bool = hasattr(select, "epoll")) -> None:
        self.multiplexed = multiplexed
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._news: list[Transfer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._kicked: asyncio.Handle | None = None
        self._stale: set[Place] = set()
        self._watch: _Watch = _EpollWatch(self) if epoll else _LoopWatch(self)
        self.now = self._loop.time()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    @property
    def running(self) -> list[Transfer]:
        """The transfers that are not over."""
        return list(self._running.values())

    def start(self, transfer: Transfer) -> None:
        """Begin a transfer."""
        self.now = self._loop.time()
        self._running[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)

    def cancel(self, transfer: Transfer) -> None:
        """End a transfer now; its connection is closed unless others use it. Nothing more is told of it."""
        if self._running.pop(transfer.curl, None) is not None:
            self._multi.remove_handle(transfer.curl)

    def has_news(self, transfer: Transfer) -> None:
        """Have a transfer told once libcurl is done with what it is doing. To be called by callbacks."""
        self._news.append(transfer)

    def is_stale(self, own: Place, *, kept: bool) -> bool:
        """Whether a connection, by its own end, must not be used: it made itself heard while nobody had asked."""
        if own not in self._stale:
            return False
        self._stale.discard(own)  # it is closed for that; or was, and this is a new one from the same port
        return kept

    def went_stale(self, descriptor: int) -> None:
        """Note that a kept connection was closed by its server, or sent what would be taken for the next answer."""
        kept = socket.socket(fileno=descriptor)
        try:
            self._stale.add(kept.getsockname()[:2])
        except OSError:
            pass
        finally:
            kept.detach()

    def nudge(self) -> None:
        """Have libcurl look at its transfers soon: one was unpaused."""
        self._kick()

    def close(self) -> None:
        """Close all connections. No transfer may be left."""
        for handle in (self._timer, self._kicked):
            if handle is not None:
                handle.cancel()
        self._multi.close()
        self._watch.close()

    def act(self, events: list[tuple[int, int]]) -> None:
        """Tell libcurl of sockets and what they are ready for, and transfers of what came of it."""
        self.now = self._loop.time()
        for descriptor, mask in events:
            self._multi.socket_action(descriptor, mask)
        self._tell()

    def _socket(self, what: int, descriptor: int, multi: pycurl.CurlMulti, data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._watch.leave(descriptor)
        else:
            self._watch.watch(descriptor, read=bool(what & pycurl.POLL_IN), write=bool(what & pycurl.POLL_OUT))

    def _set_timer(self, milliseconds: int) -> None:
        if milliseconds < 0:
            self._due = None
        elif milliseconds == 0:
            self._kick()
        else:
            self._due = due = self._loop.time() + milliseconds / 1000
            # A timer that rings early finds that out and sets itself again: cheaper than a new one for each request.
            if self._timer is None or self._timer.when() > due:
                self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._due > self._loop.time():
            self._arm(self._due)
            return
        self._due = None
        self._time_out()

    def _kick(self) -> None:
        """Act at the loop's next turn: once for all requests that begin in this one."""
        if self._kicked is None:
            self._kicked = self._loop.call_soon(self._time_out)

    def _time_out(self) -> None:
        self._kicked = None
        events = self._watch.poll()  # before libcurl takes kept connections for what it begins now
        self.now = self._loop.time()
        for descriptor, mask in events:
            self._multi.socket_action(descriptor, mask)
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._tell()

    def _tell(self) -> None:
        queued = 1
        while queued:
            queued, well, badly = self._multi.info_read()
            for curl in well:
                self._end(curl, 0, "")
            for curl, code, message in badly:
                self._end(curl, code, message)
        if self._news:
            news, self._news = self._news, []
            for transfer in news:
                if transfer.curl in self._running:
                    transfer.news()

    def _end(self, curl: pycurl.Curl, code: int, message: str) -> None:
        transfer = self._running.pop(curl, None)
        if transfer is not None:
            self._multi.remove_handle(curl)
            transfer.ended(code, message)


class _Watch(Protocol):
    def watch(self, descriptor: int, *, read: bool, write: bool) -> None: ...

    def leave(self, descriptor: int) -> None: ...

    def poll(self) -> list[tuple[int, int]]: ...

    def close(self) -> None: ...


class _EpollWatch:
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

    def watch(self, descriptor: int, *, read: bool, write: bool) -> None:
        mask = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        self._wanted[descriptor] = mask
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:  # new, or another socket of the same number: a closed one leaves by itself
            self._epoll.register(descriptor, mask)

    def leave(self, descriptor: int) -> None:
        mask = self._wanted.pop(descriptor, 0)
        if mask != select.EPOLLIN:
            with contextlib.suppress(OSError):
                self._epoll.modify(descriptor, select.EPOLLIN)

    def poll(self) -> list[tuple[int, int]]:
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

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        if events := self.poll():
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


class _LoopWatch:
    """Sockets that the loop watches itself. Kept connections are watched by libcurl alone, when it takes one."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._watched: set[int] = set()

    def watch(self, descriptor: int, *, read: bool, write: bool) -> None:
        self.leave(descriptor)
        self._watched.add(descriptor)
        if read:
            self._loop.add_reader(descriptor, self._driver.act, [(descriptor, pycurl.CSELECT_IN)])
        if write:
            self._loop.add_writer(descriptor, self._driver.act, [(descriptor, pycurl.CSELECT_OUT)])

    def leave(self, descriptor: int) -> None:
        if descriptor in self._watched:
            self._watched.discard(descriptor)
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    def poll(self) -> list[tuple[int, int]]:
        return []  # the loop tells

    def close(self) -> None:
        for descriptor in list(self._watched):
            self.leave(descriptor)
