"""What a caller of the service wants to hear of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fetcher.progress import Progress
from fetcher.sources import Entry


@dataclass(frozen=True, slots=True)
class Resumed:
    """What was found of a run that is resumed: targets accepted and done, and how far its input was read.

    ``lost`` says why what is left of the input cannot be read, where that is so.
    """

    run: int
    accepted: int
    done: int
    planned: bool
    read_to: str
    lost: str


@dataclass(slots=True)
class Listener:
    """What a caller wants to hear of.

    ``recorded`` gets the ids of results just saved and runs in the writer thread, so that it may read the database;
    ``rejected`` gets lines that are no targets, ``resumed`` what was found of a run that is gone on with, ``message``
    what else a person should know of.
    """

    progress: Progress = field(default_factory=Progress)
    started: Callable[[int], None] = lambda run: None
    rejected: Callable[[Entry], None] = lambda entry: None
    recorded: Callable[[list[int]], None] = lambda ids: None
    resumed: Callable[[Resumed], None] = lambda found: None
    message: Callable[[str], None] = lambda text: None
