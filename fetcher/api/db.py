"""Reading the database from async views."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections, reset_queries

P = ParamSpec("P")
T = TypeVar("T")

# Few threads: reads are short, and on one SQLite file more of them only wait for each other.
POOL = ThreadPoolExecutor(max_workers=4, thread_name_prefix="trawl-read")
# Of their own, so that a hundred streams that begin at once do not stand in line before every other read.
STREAM_POOL = ThreadPoolExecutor(max_workers=2, thread_name_prefix="trawl-stream")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a thread of the pool, side by side with others, and await what it returns.

    The usual ``sync_to_async`` sends every read of a process through one thread.
    """
    return await sync_to_async(_fresh, thread_sensitive=False, executor=POOL)(function, *args, **kwargs)


async def in_stream_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the same for the next part of a stream."""
    return await sync_to_async(_fresh, thread_sensitive=False, executor=STREAM_POOL)(function, *args, **kwargs)


def _fresh(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    # No request begins or ends in these threads, so nothing else looks at the age and health of their connections, or
    # empties the log of queries that DEBUG keeps.
    close_old_connections()
    reset_queries()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()
