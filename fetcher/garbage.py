"""Python's cycle collector, made fit for a process that fetches.

Every request makes dozens of objects that live until their batch is recorded, and hardly any that are part of a cycle.
As Python comes, the collector looks at them again and again, and now and then at all that Django has loaded: a seventh
of the time that a URL takes to be fetched and saved.
"""

from __future__ import annotations

import gc

YOUNG = 50_000
"""New objects after which the young ones are looked at: some megabytes. Python's own figure is 700, later 2,000."""


class RareCollections:
    """A context in which the collector looks seldom, and only at what was made inside.

    It may be entered again while it is in force, and is over when all have left; use it in one thread. Who has switched
    the collector off, or has it look even more seldom, is left alone.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._before = gc.get_threshold()

    def __enter__(self) -> None:
        self._inside += 1
        if self._inside == 1:
            self._before = gc.get_threshold()
            if 0 < self._before[0] < YOUNG:
                gc.set_threshold(YOUNG, *self._before[1:])
            gc.freeze()

    def __exit__(self, *exc_info: object) -> None:
        self._inside -= 1
        if self._inside == 0:
            gc.unfreeze()
            gc.set_threshold(*self._before)


rare_collections = RareCollections()
"""The one of this process."""
