"""What can happen to a run, and in which order it does."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.crash.points import ALONE, FIRST, HELPER, POINTS, RESUMED

KINDS = ("sqlite", "postgres")
WHO = (ALONE, HELPER, FIRST, RESUMED)
RANDOM = "random"
SIGNALS = ("SIGINT", "SIGTERM", "SIGINT+SIGINT", "SIGTERM+SIGTERM", "SIGINT+SIGTERM")
_RANDOM_SHARE = 4
"""So many random times for each three kills at every named point, about."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: the database, who is hit, where, and at which passage or after which part of the run's time.

    ``when`` is None until it was drawn: then the passage's number for a named point, else seconds.
    """

    kind: str
    who: str
    where: str
    number: int = 0
    when: float | None = None

    def __str__(self) -> str:
        when = "" if self.when is None else f":{self.when:g}"
        return f"{self.kind}/{self.who}/{self.where}{when}#{self.number}"

    @property
    def is_signal(self) -> bool:
        """Whether it is a request to stop, not a kill."""
        return self.where in SIGNALS

    def draw(self, seed: int) -> random.Random:
        """Return the source of all chance in this case: the same for the same name and seed."""
        return random.Random(zlib.crc32(f"{seed} {replace(self, when=None)}".encode()))


def parse_case(text: str) -> Case:
    """Undo ``str``. Raises ValueError."""
    name, _, number = text.partition("#")
    kind, who, rest = name.split("/")
    where, _, when = rest.partition(":")
    if kind not in KINDS or who not in WHO or where not in (*POINTS, *SIGNALS, RANDOM):
        raise ValueError(f"{text!r} is no case; one is sqlite/alone/commit.inserted:3#0")
    return Case(kind, who, where, int(number or 0), float(when) if when else None)


def kills(
    draw: random.Random, count: int, kinds: Sequence[str], who: Sequence[str], points: Iterable[str]
) -> list[Case]:
    """Return ``count`` kills, spread evenly over databases and victims, and over the points of each victim."""
    groups = []
    for kind in kinds:
        for victim in who:
            places = [name for name in points if name == RANDOM or victim in POINTS[name].who]
            places += [RANDOM] * (len(places) // _RANDOM_SHARE if RANDOM in places else 0)
            draw.shuffle(places)
            groups.append([Case(kind, victim, place) for place in places])
    return _in_turn(draw, count, groups)


def stops(draw: random.Random, count: int, kinds: Sequence[str], who: Sequence[str]) -> list[Case]:
    """Return ``count`` runs that are asked to stop, once or twice: a command that is alone, or one with helpers."""
    victims = [victim for victim in who if victim in (ALONE, FIRST)]
    groups = [[Case(kind, victim, name) for name in SIGNALS] for kind in kinds for victim in victims]
    return _in_turn(draw, count, groups)


def _in_turn(draw: random.Random, count: int, groups: list[list[Case]]) -> list[Case]:
    """Take ``count`` cases from the groups in turn, and number those that are alike."""
    draw.shuffle(groups)
    groups = [group for group in groups if group]
    seen: Counter[Case] = Counter()
    found = []
    for number in range(count if groups else 0):
        group = groups[number % len(groups)]
        case = group[number // len(groups) % len(group)]
        found.append(replace(case, number=seen[case]))
        seen[case] += 1
    return found
