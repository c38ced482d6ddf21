"""One process's part in the pauses of hosts that all runs keep, on this machine and on others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from django.db import DatabaseError, InterfaceError

from fetcher.engine.control import Control
from fetcher.store import pauses
from fetcher.store.pauses import Pause
from fetcher.writer import Writer

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at what others were told."""
GATHER = 0.2
"""Seconds for which pauses are gathered before they are saved."""
SHORTEST = 1.0
"""Seconds; a pause below it is over before others hear of it."""


class SharedPauses:
    """Saves what the engine is told (``told`` is the hook of ``fetch_all``), and applies what others were told.

    ``longest`` is how many seconds a pause is kept at most. ``look`` once before anything is sent, ``keep_looking``
    beside the work, ``save`` at its end.
    """

    def __init__(self, writer: Writer, control: Control, longest: float) -> None:
        self._writer = writer
        self._control = control
        self._longest = longest
        self._told: dict[str, float] = {}
        self._news = asyncio.Event()
        self._seen: dict[str, Pause] = {}

    def told(self, host: str, seconds: float) -> None:
        """Note that a host asked to be left alone for so many seconds."""
        if seconds >= SHORTEST:
            self._told[host] = max(time.monotonic() + seconds, self._told.get(host, 0.0))
            self._news.set()

    async def look(self) -> None:
        """Apply the pauses of others that were not seen before. Raises DatabaseError."""
        seen, self._seen = self._seen, await self._writer(pauses.in_force, self._longest)
        self._control.pause({
            host: pause.seconds
            for host, pause in self._seen.items()
            if host not in seen or seen[host].until != pause.until
        })  # fmt: skip

    async def save(self) -> None:
        """Save what was told since the last time. Raises DatabaseError."""
        self._news.clear()
        if self._told:
            told = self._told.copy()
            await self._writer(pauses.save, told)
            # Only then: a call that was cancelled before it began is made again.
            self._told = {host: until for host, until in self._told.items() if told.get(host) != until}

    async def keep_looking(self) -> None:
        """Save and look, again and again."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK)
                await asyncio.sleep(GATHER)
            try:
                await self.save()
                await self.look()
            except (DatabaseError, InterfaceError) as exc:  # the work goes on without, while it can
                log.warning("pauses of hosts were not shared: %s", exc)
