"""The one thread of a process that writes to the database.

One writer has one connection, never waits for itself, and leaves the event loop free. Whoever awaits a call feels it
when the database is slower than the network: that is the back-pressure. A database that is away for a while is waited
for in the same way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, connection, connections
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, wait_exponential

from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe, passes

P = ParamSpec("P")
R = TypeVar("R")

FIRST_PAUSE = 0.2
"""Seconds before the second try; each pause after it is twice as long."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries, at most."""
REMIND = 30.0
"""Seconds between two messages while the database is away."""
_HURRIED = 5_000
"""Milliseconds that SQLite may wait for another writer once there is a hurry."""


class Writer:
    """Runs synchronous store functions one after the other. Use as ``async with Writer() as writer``.

    ``await writer(function, *args)`` repeats the call on a new connection where it failed by an error that passes (see
    ``database_errors``), until ``patience`` seconds after the database was first missed (None: the setting
    ``FETCHER_DATABASE_PATIENCE``; 0: never). Then, and for any other error, what it raised comes out. **Every function
    given to it is idempotent**, for a commit may have taken place although its answer was lost: called again, also from
    its middle, it does what is left to do. ``writer.once`` never repeats.

    What was queued when the context is left is still done, and a later call is a RuntimeError.

    ``waiting`` gets a line when waiting begins, every half minute, and when it is over; it runs in the writer thread.
    """

    def __init__(self, patience: float | None = None, waiting: Callable[[str], None] = lambda text: None) -> None:
        self._patience = fetcher_settings().database_patience if patience is None else patience
        self._waiting = waiting
        self._hurry = threading.Event()
        self._missed: float | None = None
        self._told: float | None = None
        self._exponential = wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)
        self._retrying = Retrying(
            retry=retry_if_exception(passes),
            after=self._note,
            stop=lambda state: self._hurry.is_set() or self._left() <= 0,
            wait=lambda state: min(self._exponential(state), max(0.0, self._left())),
            before_sleep=self._tell,
            sleep=sleep_using_event(self._hurry),
            before=lambda state: _forget_connection() if state.attempt_number > 1 else None,
            reraise=True,
        )
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="trawl-writer", initializer=_without_query_log
        )

    async def __aenter__(self) -> Writer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.hurry()
        # The connection belongs to the thread, so only the thread can close it; and nothing may come after that, for it
        # would open another that nobody closes.
        closing = self.once(connections.close_all)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call of an idempotent function and return the future of its result."""
        return self.once(self._patiently, lambda: function(*args, **kwargs))

    def once(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call that is tried once: where a database that is away is an error, or repeating would be one."""
        return asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))

    def hurry(self) -> None:
        """End all waiting: from now on a failure comes out at once. May be called from any thread."""
        self._hurry.set()

    # In the writer thread.

    def _patiently(self, call: Callable[[], R]) -> R:
        try:
            result: R = self._retrying(self._try, call)
        except (DatabaseError, InterfaceError) as exc:
            if passes(exc):  # patience is over, and so is this run: what it still has to say must not wait again
                self.hurry()
            raise
        if self._told is not None and self._missed is not None and not self._hurry.is_set():
            self._waiting(f"the database can be used again after {_spoken(time.monotonic() - self._missed)}")
        self._missed = self._told = None
        return result

    def _try(self, call: Callable[[], R]) -> R:
        if self._hurry.is_set() and connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout")
                if cursor.fetchone()[0] > _HURRIED:
                    cursor.execute(f"PRAGMA busy_timeout = {_HURRIED}")
        return call()

    def _left(self) -> float:
        """Return the seconds of patience that are left. They are the outage's: no call begins anew."""
        assert self._missed is not None
        return self._patience - (time.monotonic() - self._missed)

    def _note(self, state: RetryCallState) -> None:
        if self._missed is None:
            self._missed = state.start_time  # SQLite has waited for a while itself before it says that it is locked

    def _tell(self, state: RetryCallState) -> None:
        now = time.monotonic()
        assert state.outcome is not None
        if self._told is not None and now - self._told < REMIND:
            return
        reason = describe(state.outcome.exception() or Exception())
        self._waiting(f"{reason}; trying again for up to {_spoken(self._left())}")
        self._told = now


def _forget_connection() -> None:
    """Have the next statement open a new connection, whatever state the old one and its transaction were left in."""
    try:
        connection.close()
    finally:
        connection.connection = None
        connection.in_atomic_block = False
        connection.closed_in_transaction = False


def _spoken(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _without_query_log() -> None:
    """Keep Django from logging this thread's statements.

    With ``DEBUG`` it would keep the text of the last 9,000, some hundred megabytes here, and ask SQLite to quote every
    parameter for it.
    """
    connection.make_debug_cursor = connection.make_cursor  # type: ignore[method-assign,assignment]
