"""A hand on a running ``fetch_all``: hold it up, let it go on, stop it, have it share its concurrency, pause hosts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Control:
    """Give one to ``fetch_all`` and call its methods from the event loop's thread, at any time.

    Whatever is in flight is never touched: only what would be sent next waits (``hold``) or is left (``stop``).
    """

    def __init__(self) -> None:
        self.held = False
        self.stopped = False
        self.sharers = 1
        self._pauses: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def sending(self) -> bool:
        """Whether anything new may be sent."""
        return not (self.held or self.stopped)

    def hold(self) -> None:
        """Send nothing new until ``go_on``."""
        self._change(held=True)

    def go_on(self) -> None:
        """Undo ``hold``."""
        self._change(held=False)

    def stop(self) -> None:
        """Send nothing new any more: what is in flight still has its outcomes, then the iteration ends.

        Targets that were taken from the source and not sent, or that wait for a retry, have none.
        """
        self._change(stopped=True)

    def share(self, sharers: int) -> None:
        """Use only this part of the concurrency: so many processes, this one included, have it together."""
        if sharers != self.sharers:
            self.sharers = sharers
            self._tell()

    def pause(self, hosts: Mapping[str, float]) -> None:
        """Ask nothing more of these hosts for so many seconds each: somebody else was told to leave them alone.

        A pause that is under way is never shortened. What is said before the beginning holds from the beginning.
        """
        now = time.monotonic()
        for host, seconds in hosts.items():
            self._pauses[host] = max(now + seconds, self._pauses.get(host, 0.0))
        if hosts:
            self._tell()

    def take_pauses(self) -> dict[str, float]:
        """Return the hosts that were paused since the last call, and the seconds that are left of each pause."""
        now = time.monotonic()
        taken, self._pauses = self._pauses, {}
        return {host: until - now for host, until in taken.items() if until > now}

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after every change."""
        self._listeners.append(listener)

    def _change(self, *, held: bool | None = None, stopped: bool = False) -> None:
        before = self.held, self.stopped
        self.held = self.held if held is None else held
        self.stopped = self.stopped or stopped
        if (self.held, self.stopped) != before:
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
