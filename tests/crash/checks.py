"""What must hold after a kill. Every function returns what is wrong, and nothing where all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fetcher.models import PLACES
from tests.crash.script import Expected, Script
from tests.crash.snapshot import STATUSES, Snapshot

LOST, TWICE, MISPLACED, COUNTERS, DAMAGED = "lost", "twice", "misplaced", "counters", "damaged"
REPEATED, RESUME, OUTCOME, HUNG, NOT_REACHED = "repeated", "resume", "outcome", "hung", "not reached"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise and the evidence."""

    check: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.check}: {self.evidence}"


def at_any_time(snapshot: Snapshot) -> list[Violation]:
    """Check what every reader may rely on at every moment of a run."""
    return [*_places(snapshot), *_once(snapshot), *_done(snapshot), *_counters(snapshot)]


def _places(snapshot: Snapshot) -> Iterable[Violation]:
    """A result's id is its place, and its target and position are what the shard has in that place."""
    for result in snapshot.results:
        number, place = divmod(result.id, PLACES)
        shard = snapshot.shards.get(number)
        if shard is None or place >= len(shard.targets):
            yield Violation(MISPLACED, f"result {result.id} has no place in a shard of run {snapshot.run}")
        elif (shard.targets[place], shard.positions[place]) != (result.target, result.position):
            yield Violation(MISPLACED, f"result {result.id} is of target {result.target}, its place of another")
        if not result.whole:
            yield Violation(MISPLACED, f"result {result.id} is {result.status} and has no body")


def _once(snapshot: Snapshot) -> Iterable[Violation]:
    for target, times in Counter(result.target for result in snapshot.results).items():
        if times > 1:
            yield Violation(TWICE, f"target {target} has {times} results")
    for result, times in Counter(result.id for result in snapshot.results).items():
        if times > 1:
            yield Violation(TWICE, f"result {result} is there {times} times")
    accepted = Counter(target for shard in snapshot.shards.values() for target in shard.targets)
    for target, times in accepted.items():
        if times > 1:
            yield Violation(TWICE, f"target {target} was accepted {times} times")


def _done(snapshot: Snapshot) -> Iterable[Violation]:
    """A target without a result is pending, so its shard must not be closed, nor its run."""
    recorded = {result.id for result in snapshot.results}
    for number, shard in snapshot.shards.items():
        missing = [place for place in range(len(shard.targets)) if number * PLACES + place not in recorded]
        if missing and (shard.done or snapshot.state == "completed"):
            what = f"shard {number} is done" if shard.done else f"run {snapshot.run} is completed"
            yield Violation(LOST, f"{what}, but {len(missing)} of its targets have no result")


def _counters(snapshot: Snapshot) -> Iterable[Violation]:
    planned: Counter[int] = Counter()
    for number, shard in snapshot.shards.items():
        planned[shard.lane] += len(shard.targets)
        if shard.size != len(shard.targets):
            yield Violation(COUNTERS, f"shard {number} says {shard.size} targets and has {len(shard.targets)}")
    counted: dict[int, Counter[str]] = {lane: Counter() for lane in snapshot.lanes}
    for result in snapshot.results:
        if shard := snapshot.shards.get(result.id // PLACES):
            counted[shard.lane][result.status] += 1
            counted[shard.lane]["bytes"] += result.bytes
    for pk, lane in snapshot.lanes.items():
        said = {"planned": lane.planned, "bytes": lane.bytes, **lane.counts}
        there = {"planned": planned[pk], **{name: counted[pk][name] for name in ("bytes", *STATUSES)}}
        for name, number in said.items():
            if number != there[name]:
                yield Violation(COUNTERS, f"lane {pk} says {name} {number}, but there are {there[name]}")
    total = sum(lane.planned for lane in snapshot.lanes.values())
    pending = total - sum(sum(lane.counts.values()) for lane in snapshot.lanes.values())
    if total != len(snapshot.results) + pending or pending < 0:
        yield Violation(COUNTERS, f"total {total} is not {len(snapshot.results)} results + {pending} pending")
    if snapshot.rejected != snapshot.rejected_said:
        yield Violation(COUNTERS, f"{snapshot.rejected} lines are kept, {snapshot.rejected_said} are said to be")


def at_the_end(snapshot: Snapshot, script: Script) -> list[Violation]:
    """Check that a run which was resumed has all of its list, and nothing else."""
    found = []
    if snapshot.state != "completed" or not snapshot.planned:
        found.append(Violation(RESUME, f"run {snapshot.run} is {snapshot.state} after resuming"))
    by_url = {snapshot.urls.get(result.target, f"target {result.target}"): result for result in snapshot.results}
    missing = sorted(script.expected.keys() - by_url.keys())
    if missing:
        check = LOST if snapshot.state == "completed" else RESUME
        found.append(Violation(check, f"{len(missing)} URLs of the list have no result, the first {missing[0]}"))
    for url, result in by_url.items():
        expected = script.expected.get(url)
        if expected is None:
            found.append(Violation(OUTCOME, f"{url} is not in the list"))
        elif (expected.position, expected.status) != (result.position, result.status):
            text = f"{url} is {result.status} at {result.position}, not {expected.status} at {expected.position}"
            found.append(Violation(OUTCOME, text))
    for name in ("duplicates", "rejected"):
        if getattr(snapshot, name) != getattr(script, name):
            text = f"{getattr(snapshot, name)} {name} are counted, the list has {getattr(script, name)}"
            found.append(Violation(OUTCOME, text))
    return found


def in_flight(asked: Iterable[str], recorded: Iterable[str], script: Script) -> frozenset[str]:
    """Return the paths that the origin had been asked for and that had no result yet."""
    paths = {expected.path for expected in script.expected.values()}
    return frozenset((paths & set(asked)) - set(recorded))


def repeated(asked: Mapping[str, int], script: Script) -> dict[str, int]:
    """Return by path how many requests the origin got beyond those that are scripted."""
    return {
        expected.path: asked[expected.path] - expected.requests
        for expected in script.expected.values()
        if asked.get(expected.path, 0) > expected.requests
    }


def only_what_was_in_flight(again: Mapping[str, int], flying: Mapping[str, int]) -> list[Violation]:
    """Check that nothing was requested again more often than it was in flight at a kill."""
    return [
        Violation(
            REPEATED, f"{path} was requested {times} times more than scripted, in flight {flying.get(path, 0)} times"
        )
        for path, times in again.items()
        if times > flying.get(path, 0)
    ]


def paths_of(snapshot: Snapshot, script: Script, *, until: float | None = None) -> set[str]:
    """Return the paths that have a result, of those that were begun until a time (seconds since the epoch)."""
    expected: dict[str, Expected] = script.expected
    return {
        expected[url].path
        for result in snapshot.results
        if (until is None or result.started_at <= until) and (url := snapshot.urls[result.target]) in expected
    }
