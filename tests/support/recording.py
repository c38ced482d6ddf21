"""A dispatcher that records, and does what it is told to."""

from __future__ import annotations

from collections.abc import Callable

from fetcher.dispatch import DispatchError


class RecordingDispatcher:
    """Notes whom it was to wake; ``at_wake`` is called then, before ``error`` is raised.

    ``idle``: no message is in the queue that nobody has taken. ``ending``: the worker is asked to end.
    """

    longest_attempt = 60.0

    def __init__(
        self,
        *,
        at_wake: Callable[[], None] = lambda: None,
        error: Exception | None = None,
        away: bool = False,
        idle: bool = True,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self.woken: list[int] = []
        self._at_wake = at_wake
        self._error = error
        self._away = away
        self._idle = idle
        self._ending = ending

    def check(self) -> None:
        if self._away:
            raise DispatchError("the queue cannot be reached")

    def is_idle(self) -> bool:
        return self._idle

    def is_ending(self) -> bool:
        return self._ending()

    def wake(self, run: int, count: int = 1) -> None:
        self._at_wake()
        if self._error is not None:
            raise self._error
        self.woken += [run] * count
