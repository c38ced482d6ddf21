"""What can happen to a run of the cluster, and where."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SQLITE, POSTGRES, REDIS = "sqlite", "postgres", "redis"
SETUPS = {
    SQLITE: "SQLite, its queue as well",
    POSTGRES: "PostgreSQL, its queue as well",
    REDIS: "PostgreSQL, the queue in Redis",
}
DRAIN, TAKEOVER, WORKER, MAIN, ALL = "drain", "kill one", "kill worker", "kill main", "kill both"
TERM, REDIS_DOWN, POSTGRES_DOWN = "terminate", "restart redis", "restart postgres"
JOIN, BEHIND, DELAY, DUE = "join", "queue behind", "host delay", "due jobs"
DELAY_TAKEOVER = "host delay, kill one"
FAULTS = {
    DRAIN: "nothing happens to two clusters",
    TAKEOVER: "SIGKILL to all processes of one of two clusters",
    WORKER: "SIGKILL to the worker process of one of two clusters",
    MAIN: "SIGKILL to the main process of one of two clusters",
    ALL: "SIGKILL to both clusters, and a new one",
    TERM: "SIGTERM to the main process of one of two clusters",
    REDIS_DOWN: "SIGKILL to Redis, which forgets all messages",
    POSTGRES_DOWN: "PostgreSQL stops as in a crash and comes back",
    JOIN: "a second cluster begins in the middle",
    BEHIND: "a small run is handed over in the middle of a large one",
    DELAY: "two clusters keep the delay between two requests to a host",
    DELAY_TAKEOVER: "the same, and one of them is killed",
    DUE: "two schedulers and twenty jobs that are due",
}
ONLY = {REDIS_DOWN: (REDIS,), POSTGRES_DOWN: (POSTGRES, REDIS)}
REAL = "real"
"""Marks a case in which every wait of the cluster is what it is in production."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: the set-up, what happens, the number of the round, and whether waits are the ``real`` ones."""

    setup: str
    fault: str
    number: int = 0
    real: bool = False

    def __str__(self) -> str:
        return "/".join([self.setup, self.fault, *([REAL] if self.real else [])]) + f"#{self.number}"

    def draw(self, seed: int) -> random.Random:
        """Return the source of all chance in this case: the same for the same name and seed."""
        return random.Random(zlib.crc32(f"{seed} {self}".encode()))


def parse_case(text: str) -> Case:
    """Undo ``str``. Raises ValueError."""
    name, _, number = text.partition("#")
    setup, fault, *rest = name.split("/")
    if setup not in SETUPS or fault not in FAULTS or rest not in ([], [REAL]) or not _fits(setup, fault):
        raise ValueError(f"{text!r} is no case; one is '{SQLITE}/{TAKEOVER}#0'")
    return Case(setup, fault, int(number or 0), bool(rest))


def cases(
    setups: Sequence[str], faults: Iterable[str], rounds: int, *, once: Sequence[str] = (DRAIN,), real: bool = False
) -> list[Case]:
    """Return so many rounds of every fault on every set-up that it fits, and one of those that are done ``once``."""
    return [
        Case(setup, fault, number, real)
        for fault in faults
        for setup in setups
        if _fits(setup, fault)
        for number in range(1 if fault in once else rounds)
    ]


def _fits(setup: str, fault: str) -> bool:
    return setup in ONLY.get(fault, SETUPS)
