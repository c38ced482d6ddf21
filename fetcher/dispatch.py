"""The cluster as the fetcher knows it: somebody who can be told that a run has work.

``FETCHER_DISPATCHER`` names it. What is told only wakes a worker; what there is to do is in the database, so a message
that is lost costs time and nothing else.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from django.utils.module_loading import import_string

from fetcher.conf import fetcher_settings


class DispatchError(Exception):
    """The cluster cannot be told; the text says what cannot be reached and how to check it."""


class NoCluster(DispatchError):
    """There is none."""


@runtime_checkable
class Dispatcher(Protocol):
    """What ``FETCHER_DISPATCHER`` is a dotted path to: a class without arguments."""

    @property
    def longest_attempt(self) -> float:
        """Seconds that an attempt may take on the cluster (``--deadline``), at most."""

    def check(self) -> None:
        """Raise DispatchError where the cluster's queue cannot be reached."""

    def is_idle(self) -> bool:
        """Whether no message waits for a worker. Raises DispatchError where the queue cannot be reached."""

    def is_ending(self) -> bool:
        """Whether this process, a worker of the cluster, is asked to end: then it begins nothing and ends its slice."""

    def wake(self, run: int, count: int = 1) -> None:
        """Have up to ``count`` workers look after a run, or after another that needs them more. Raises DispatchError.

        Each calls ``fetcher.slices.work_slice``.
        """


def dispatcher() -> Dispatcher:
    """Return the cluster's dispatcher. Raises NoCluster."""
    path = fetcher_settings().dispatcher
    if not path:
        raise NoCluster("there is no cluster: FETCHER_DISPATCHER is not set")
    try:
        found: Dispatcher = import_string(path)()
    except ImportError as exc:
        raise NoCluster(f"FETCHER_DISPATCHER is {path!r}, which cannot be imported: {exc}") from None
    return found
