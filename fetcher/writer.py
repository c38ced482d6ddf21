"""The one thread of a process that writes to the database.

One writer has one connection, never waits for itself, and leaves the event loop free. Whoever awaits a call feels it
when the database is slower than the network: that is the back-pressure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connection, connections

P = ParamSpec("P")
R = TypeVar("R")


class Writer:
    """Runs synchronous store functions one after the other. Use as ``async with Writer() as writer``."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="trawl-writer", initializer=_without_query_log
        )

    async def __aenter__(self) -> Writer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        # The connection belongs to the thread, so only the thread can close it.
        try:
            await asyncio.shield(self(connections.close_all))
        finally:
            self._thread.shutdown(wait=False)

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call and return the future of its result."""
        return asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))


def _without_query_log() -> None:
    """Keep Django from logging this thread's statements.

    With ``DEBUG`` it would keep the text of the last 9,000, some hundred megabytes here, and ask SQLite to quote every
    parameter for it.
    """
    connection.make_debug_cursor = connection.make_cursor  # type: ignore[method-assign,assignment]
