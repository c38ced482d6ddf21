"""What the origin's own log says of how it was treated, and by whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from fetcher.demo.origin import Entry
from tests.cluster.changes import AGENT


def sender(entry: Entry) -> tuple[str, int]:
    """Return the cluster that sent a request and the process; an empty name for somebody else."""
    agent, _, rest = entry.header("User-Agent").partition("/")
    name, _, pid = rest.partition("/")
    return (name, int(pid)) if agent == AGENT and pid.isdecimal() else ("", 0)


def shares(entries: Iterable[Entry]) -> Counter[str]:
    """Count the requests of each cluster."""
    return Counter(name for name, _ in map(sender, entries) if name)


def peaks(entries: Iterable[Entry], killed: Mapping[int, float] | None = None) -> Counter[str]:
    """Return by host how many requests were in flight at once, at most.

    ``killed`` is when processes were killed, by their number: the origin goes on with what they asked for, but nobody
    waits for it any more.
    """
    killed = killed or {}
    moments: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for entry in entries:
        ended = min(float("inf") if entry.ended is None else entry.ended, killed.get(sender(entry)[1], float("inf")))
        if ended > entry.started:
            moments[entry.header("Host")] += [(entry.started, 1), (ended, -1)]
    found: Counter[str] = Counter()
    for host, changes in moments.items():
        level = 0
        for _, change in sorted(changes):  # at one moment an end counts before a beginning
            level += change
            found[host] = max(found[host], level)
    return found


def gaps(entries: Iterable[Entry]) -> dict[str, tuple[float, Entry]]:
    """Return by host the least number of seconds between the starts of two of its requests, and the second of them."""
    by_host: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_host[entry.header("Host")].append(entry)
    found = {}
    for host, requests in by_host.items():
        pairs = pairwise(sorted(requests, key=lambda entry: entry.started))
        spaces = [(after.started - before.started, after) for before, after in pairs]
        if spaces:
            found[host] = min(spaces, key=lambda space: space[0])
    return found


def pauses(entries: Sequence[Entry], since: float, until: float) -> list[float]:
    """Return how long nothing was in flight each time between two moments, in seconds."""
    busy_until, found = since, []
    for entry in sorted(entries, key=lambda entry: entry.started):
        ended = until if entry.ended is None else entry.ended
        if ended < since or entry.started > until:
            continue
        found.append(max(0.0, entry.started - busy_until))
        busy_until = max(busy_until, ended)
    return [*found, max(0.0, until - busy_until)]
