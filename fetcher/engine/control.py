"""A hand on a running ``fetch_all``: hold it up, let it go on, stop it."""

from __future__ import annotations

from collections.abc import Callable


class Control:
    """Give one to ``fetch_all`` and call its methods from the event loop's thread, at any time.

    Whatever is in flight is never touched: only what would be sent next waits (``hold``) or is left (``stop``).
    """

    def __init__(self) -> None:
        self.held = False
        self.stopped = False
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

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after every change."""
        self._listeners.append(listener)

    def _change(self, *, held: bool | None = None, stopped: bool = False) -> None:
        before = self.held, self.stopped
        self.held = self.held if held is None else held
        self.stopped = self.stopped or stopped
        if (self.held, self.stopped) != before:
            for listener in self._listeners:
                listener()
