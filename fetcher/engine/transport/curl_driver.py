"""A CurlMulti driven by the running event loop.

libcurl says which sockets it waits for and when it wants to be called again. The sockets go into an epoll of our own
whose descriptor the loop watches as one: a loop that watched each of them would be told of every change, for every
request. Where there is no epoll the loop watches them itself.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections import deque
from typing import Protocol

import pycurl

from fetcher.engine.transport.curl_reuse import KeptOpen, Place
from fetcher.engine.transport.curl_watch import EpollWatch, Events, LoopWatch, Watch

_TURN_SECONDS = 0.005
"""After so long the loop's other tasks have their turn."""
_GREEDY_SECONDS = 0.002
"""A transfer that keeps libcurl busy for longer at a time, in processor time, waits in line with others of its kind."""


class Transfer(Protocol):
    """A request under way. The driver calls these outside of libcurl."""

    curl: pycurl.Curl

    def news(self) -> None:
        """Hear that the head of the answer is complete, or that more of its body is here."""

    def ended(self, code: int, message: str) -> None:
        """Hear that it is over, and out of the driver; ``code`` is libcurl's, 0 where all went well."""

    def hold(self) -> bool:
        """Receive nothing more for now; whether that is possible."""

    def go_on(self) -> None:
        """Receive again, as far as there is room."""


class Driver:
    """Runs transfers. Belongs to one event loop.

    ``connections`` is how many are kept, those in use included; ``multiplexed`` says that one may serve several
    requests at a time (HTTP/2). ``kept`` knows which servers keep them open. ``now`` is the loop's time at which what
    happens happened: callbacks may read it for nothing.
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
        self._backlog: dict[int, int] = {}
        self._line: deque[Transfer] = deque()
        self._heard: dict[int, float] = {}
        self._watch: Watch = EpollWatch(self) if epoll else LoopWatch(self)
        self.kept = KeptOpen(watched=epoll)
        self.now = self._loop.time()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    @property
    def running(self) -> list[Transfer]:
        """The transfers that are not over."""
        return list(self._running.values())

    @property
    def is_kicked(self) -> bool:
        """Whether the driver acts by itself at the loop's next turn, and asks then what is ready."""
        return self._kicked is not None

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
            own = kept.getsockname()[:2]
            self._stale.add(own)
            self.kept.note_close(own, self._loop.time())
        except OSError:
            pass
        finally:
            kept.detach()

    def note_answer(self, server: str, own: Place) -> None:
        """Note that a server answered an unsafe request; it may have closed the connection since."""
        self.kept.note_answer(server, own, self._loop.time())
        if own in self._stale:
            self.kept.note_close(own, self._loop.time())

    def heard(self, transfer: Transfer) -> float:
        """Return when something last moved on a transfer's connection (the loop's time), whatever became of it.

        libcurl says nothing of a header line before it is complete. What others have on a connection does not count.
        """
        return 0.0 if self.multiplexed else self._heard.get(transfer.curl.getinfo(pycurl.ACTIVESOCKET), 0.0)

    def resume(self, transfer: Transfer) -> None:
        """Have a transfer go on soon that was held up."""
        self._line.append(transfer)
        self._kick()

    def close(self) -> None:
        """Close all connections. No transfer may be left."""
        for handle in (self._timer, self._kicked):
            if handle is not None:
                handle.cancel()
        self._multi.close()
        self._watch.close()

    def act(self, events: Events) -> None:
        """Tell libcurl of sockets and what they are ready for, and transfers of what came of it.

        Sockets wait where the driver acts by itself at the next turn: it may already have acted in this one.
        """
        if self.is_kicked:
            self._backlog.update(events)
            return
        self._serve(events, time.monotonic() + _TURN_SECONDS)
        self._tell()

    def _serve(self, events: Events, until: float) -> None:
        """Serve sockets until a time. What is left then comes first in the next turn."""
        if self._backlog:
            self._backlog.update(events)
            events = list(self._backlog.items())
            self._backlog.clear()
        self.now = self._loop.time()
        before, busy = time.monotonic(), time.thread_time()
        for served, (descriptor, mask) in enumerate(events, 1):
            self._heard[descriptor] = self.now
            self._multi.socket_action(descriptor, mask)
            after = time.monotonic()
            if after - before > _GREEDY_SECONDS:  # or the system had other things to do
                already, busy = busy, time.thread_time()
                if busy - already > _GREEDY_SECONDS:
                    self._hold(descriptor)
                    until = before  # one is enough for a turn: what is in line has its share too
            before = after
            if after > until:
                self._backlog.update(events[served:])
                self._heard.update(dict.fromkeys(self._backlog, self.now))  # that it waits is not the server's fault
                self._kick()
                return

    def _hold(self, descriptor: int) -> None:
        """Put what kept libcurl busy in line.

        libcurl goes on with everything of which there is more to read, in one call. A server that sends chunks of one
        byte, or extensions of chunks without end, would keep it there as long as it likes.
        """
        for transfer in self.running:
            if transfer.curl.getinfo(pycurl.ACTIVESOCKET) == descriptor and transfer.hold():
                self.resume(transfer)

    def _resume_some(self, until: float) -> None:
        """Resume at least one transfer, and more until a time."""
        for _ in range(len(self._line)):
            transfer = self._line.popleft()
            if transfer.curl not in self._running:
                continue
            busy = time.thread_time()
            transfer.go_on()
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            greedy = time.thread_time() - busy > _GREEDY_SECONDS
            if greedy and transfer.curl in self._running and transfer.hold():
                self._line.append(transfer)
            if time.monotonic() > until:
                break
        if self._line:
            self._kick()

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
        self._kick()  # not at once: the driver may already have acted in this turn

    def _kick(self) -> None:
        """Act at the loop's next turn: once for all requests that begin in this one."""
        if self._kicked is None:
            self._kicked = self._loop.call_soon(self._time_out)

    def _time_out(self) -> None:
        self._kicked = None
        until = time.monotonic() + _TURN_SECONDS
        self._serve(self._watch.poll(), until)  # before libcurl takes kept connections for what it begins now
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        if self._line:
            self._resume_some(until)
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
