"""The list that is fetched, and what must come of each of its lines."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from fetcher.demo.exchange import Exchange

LISTENERS = 20
"""Ports of the origin, each a host of its own."""
KNOWN = 40
"""Targets with an ETag that an earlier run has fetched."""
HANG = 25.0
"""Seconds that a path which hangs takes."""

_numbers = itertools.count(1)


class Hanging:
    """``/hang/N``: answers while ``active`` after a long time, otherwise at once."""

    def __init__(self) -> None:
        self.active = False

    async def __call__(self, exchange: Exchange) -> None:
        if self.active:
            await exchange.wait(HANG)
        await exchange.answer_json({"hang": exchange.segment()})


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be saved of a URL. ``position`` counts the URLs of the list, repetitions included, from 0.

    ``requests`` is how often the origin is asked for the path when nothing goes wrong.
    """

    path: str
    position: int
    status: str = "succeeded"
    requests: int = 1


@dataclass(slots=True)
class Script:
    """A list and its outcome. ``rejected`` counts the lines that are no URL, ``duplicates`` those that are repeated."""

    lines: list[str] = field(default_factory=list)
    expected: dict[str, Expected] = field(default_factory=dict)
    duplicates: int = 0
    rejected: int = 0


def known_urls(netlocs: Sequence[str]) -> list[str]:
    """Return the URLs that the earlier run fetches."""
    return [f"http://{netlocs[number % len(netlocs)]}/etag/{number}" for number in range(KNOWN)]


def write_script(
    draw: random.Random, netlocs: Sequence[str], *, count: int, hanging: int = 0, slow: float = 0.2
) -> Script:
    """Return a list of ``count`` URLs in random order, with some repetitions and some lines that are no URL.

    ``slow`` is the part of them that take a moment, at most 0.8. Paths are new ones at each call, but for those with
    an ETag.
    """
    paths: list[tuple[str, str, int]] = [(f"/hang/{next(_numbers)}", "succeeded", 1) for _ in range(hanging)]
    while len(paths) < count - KNOWN:
        number, kind = next(_numbers), draw.random()
        if kind < 0.80 - slow:
            paths.append((f"/ok/{number}", "succeeded", 1))
        elif kind < 0.80:
            paths.append((f"/slow/{number}?ms={draw.randint(20, 200)}", "succeeded", 1))
        elif kind < 0.88:
            paths.append((f"/flaky/{number}", "succeeded", 2))
        elif kind < 0.95:
            paths.append((f"/redirect/1/{number}", "succeeded", 1))
        else:
            paths.append((f"/missing/{number}", "failed", 1))
    scripted = [(f"http://{draw.choice(netlocs)}{path}", path, status, asked) for path, status, asked in paths]
    scripted += [(url, f"/etag/{url.rpartition('/')[2]}", "not_modified", 1) for url in known_urls(netlocs)]
    draw.shuffle(scripted)
    return _with_noise(draw, scripted)


def _with_noise(draw: random.Random, scripted: list[tuple[str, str, str, int]]) -> Script:
    script = Script()
    position = 0
    for url, path, status, requests in scripted:
        script.lines.append(url)
        script.expected[url] = Expected(path, position, status, requests)
        position += 1
        if draw.random() < 0.02:
            script.lines.append(f"no URL {position}")
            script.rejected += 1
        elif draw.random() < 0.02:
            script.lines.append(draw.choice(list(script.expected)))
            script.duplicates += 1
            position += 1
    return script
