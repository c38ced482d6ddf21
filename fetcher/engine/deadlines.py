"""Time limits of many requests with one timer for all of them.

``asyncio.timeout`` sets a timer for each use and takes it back: with a thousand requests a second these are a thousand
entries in the loop's heap that hardly ever ring.
"""

from __future__ import annotations

import asyncio
from functools import cached_property


class Deadlines:
    """Gives out limits. Belongs to the event loop in which the first is asked for."""

    def __init__(self) -> None:
        self._limits: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def limit(self, seconds: float) -> Limit:
        """Return a context that ends what the task awaits inside after so many seconds, by a TimeoutError."""
        return Limit(self, self._loop.time() + seconds)

    def add(self, limit: Limit) -> None:
        """Watch a limit."""
        self._limits.add(limit)
        if self._timer is None or self._timer.when() > limit.when:
            self._look_at(limit.when)

    def drop(self, limit: Limit) -> None:
        """Watch a limit no more. A timer that was set for it finds out when it rings: mostly there are others."""
        self._limits.discard(limit)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for limit in [limit for limit in self._limits if limit.when <= now]:
            self._limits.discard(limit)
            limit.expire()
        if self._limits:
            self._look_at(min(limit.when for limit in self._limits))


class Limit:
    """A limit of one task; ``expired`` says whether it came to that. To be entered once, in that task."""

    __slots__ = ("_cancelling", "_deadlines", "_task", "expired", "when")

    def __init__(self, deadlines: Deadlines, when: float) -> None:
        self._deadlines = deadlines
        self.when = when
        self.expired = False

    def __enter__(self) -> Limit:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._deadlines.drop(self)
        # Somebody else may have cancelled the task as well; then that stands, as with asyncio.timeout.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel what the task awaits."""
        self.expired = True
        self._task.cancel()
