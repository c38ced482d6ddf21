"""What a run over a list would fetch, how much of it is known, and how long it takes. Nothing is requested or saved."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fetcher.causes import Cause
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.request_headers import CONDITIONAL_HEADERS
from fetcher.estimate import Limits
from fetcher.options import RunOptions
from fetcher.secrets import derived_key
from fetcher.sources import Entry, with_defaults
from fetcher.store import runs
from fetcher.store.known import Known, elapsed, known_targets
from fetcher.store.plan import target_fingerprint
from fetcher.store.retry import Asked, failed_targets

BUSIEST = 10
"""Hosts that are told apart."""
_BATCH = 2_000
_SAMPLE = 100
"""Earlier results of one host that are looked at for their times."""
_SAMPLES = 20_000
"""And of all hosts together."""
_CACHE = 32 * 2**20
"""Bytes of the list that are kept in memory; the rest lies in a temporary file."""


@dataclass(frozen=True, slots=True)
class HostPreview:
    """One host's part. ``at_least`` is the bound that the limits set in seconds, ``estimate`` the seconds expected."""

    host: str
    targets: int
    conditional: int
    at_least: float
    estimate: float | None


@dataclass(slots=True)
class Preview:
    """What a run would do. Times are seconds.

    ``known`` targets succeeded in an earlier run, ``conditional`` ones of them will be asked with their validators.
    ``at_least`` holds when every host answers as fast as it ever did (at once, where it is not known). ``estimate`` is
    None where no earlier result says how fast these hosts are; it rests on ``samples`` results of ``sampled_hosts``.
    """

    targets: int = 0
    duplicates: int = 0
    rejected: int = 0
    hosts: int = 0
    known: int = 0
    conditional: int = 0
    at_least: float = 0.0
    estimate: float | None = None
    samples: int = 0
    sampled_hosts: int = 0
    busiest: list[HostPreview] = field(default_factory=list)


def preview(
    entries: Iterable[Entry],
    config: FetchConfig,
    options: RunOptions | None = None,
    *,
    rejected: Callable[[Entry], None] = lambda entry: None,
) -> Preview:
    """Read a list to its end and return what a run over it would do; memory does not grow with the list.

    Raises ConfigError, SourceError, DatabaseError.
    """
    check_environment(config.headers)
    options = options or RunOptions()
    with contextlib.closing(_Notes()) as notes:
        reader = _Reader(config, options, notes)
        for batch in _batches(with_defaults(iter(entries), method=options.method, data=options.data)):
            for entry in batch:
                if entry.target is None:
                    rejected(entry)
            reader.read(batch)
        return _judged(reader.counts, notes, Limits.of(config))


def preview_failures(run: int, causes: Sequence[Cause], config: FetchConfig, options: RunOptions) -> Preview:
    """Return what a run over another's failures by these causes (none: by any) would do.

    Raises ConfigError, UnsealError, DatabaseError.
    """
    check_environment(config.headers)
    with contextlib.closing(_Notes()) as notes:
        reader = _Reader(config, options, notes)
        for batch in failed_targets(run, causes):
            reader.add(batch)
        return _judged(reader.counts, notes, Limits.of(config))


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(itertools.islice(entries, _BATCH)):
        yield batch


class _Notes:
    """What was seen so far, in SQLite's own temporary database, which is gone when it is closed."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = {-_CACHE // 1024};"
            "CREATE TABLE seen (mark BLOB PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE host (name TEXT PRIMARY KEY, targets INTEGER DEFAULT 0, conditional INTEGER DEFAULT 0,"
            " samples INTEGER DEFAULT 0, seconds REAL DEFAULT 0, fastest REAL) WITHOUT ROWID;"
        )

    def close(self) -> None:
        self._db.close()

    def is_new(self, mark: bytes) -> bool:
        """Note a target's fingerprint, and say whether it was not noted before."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (mark,)).rowcount == 1

    def add(self, targets: Counter[str], conditional: Counter[str]) -> None:
        """Count targets by host."""
        self._db.executemany(
            "INSERT INTO host (name, targets, conditional) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET targets = targets + excluded.targets, conditional = conditional + excluded.conditional",
            [(host, number, conditional[host]) for host, number in targets.items()],
        )

    def time(self, times: Iterable[tuple[str, float]]) -> None:
        """Add the seconds that an earlier result of a host took."""
        self._db.executemany(
            "UPDATE host SET samples = samples + 1, seconds = seconds + ?2, fastest = min(coalesce(fastest, ?2), ?2)"
            " WHERE name = ?1",
            times,
        )

    def hosts(self) -> Iterator[tuple[str, int, int, int, float, float | None]]:
        """Yield name, targets, conditional ones, samples, their seconds together, the fastest's."""
        return self._db.execute("SELECT * FROM host")

    def times(self) -> tuple[int, int, float]:
        """Return the hosts that have samples, the samples and their seconds together."""
        query = "SELECT count(*), coalesce(sum(samples), 0), coalesce(sum(seconds), 0.0) FROM host WHERE samples > 0"
        hosts, samples, seconds = self._db.execute(query).fetchone()
        return hosts, samples, seconds


class _Reader:
    """Takes the list in batches and notes what it holds."""

    def __init__(self, config: FetchConfig, options: RunOptions, notes: _Notes) -> None:
        self.counts = Preview()
        self._config = config
        self._notes = notes
        self._key = derived_key("fingerprint")
        self._variant_of = runs.variant_of(config)
        asked = {name.lower() for name, _ in config.headers}
        self._conditional = options.conditional and not CONDITIONAL_HEADERS & asked
        self._sampled: Counter[str] = Counter()
        self._taken = 0

    def read(self, batch: Sequence[Entry]) -> None:
        fresh: dict[bytes, Asked] = {}
        for entry in batch:
            if entry.target is None:
                self.counts.rejected += 1
                continue
            mark = target_fingerprint(entry.target, self._config, self._key)
            if self._notes.is_new(mark):
                fresh[mark] = Asked(entry.target.host, entry.target.headers)
            else:
                self.counts.duplicates += 1
        self.add(fresh)

    def add(self, fresh: Mapping[bytes, Asked]) -> None:
        """Count targets that were not counted before, by fingerprint."""
        counts = self.counts
        known = known_targets({mark: asked.headers for mark, asked in fresh.items()}, self._variant_of)
        conditional = [mark for mark, before in known.items() if before.conditional and self._conditional]
        counts.targets += len(fresh)
        counts.known += len(known)
        counts.conditional += len(conditional)
        self._notes.add(
            Counter(target.host for target in fresh.values()), Counter(fresh[mark].host for mark in conditional)
        )
        self._sample({mark: fresh[mark].host for mark in known}, known)

    def _sample(self, hosts: dict[bytes, str], known: dict[bytes, Known]) -> None:
        wanted = {}
        for mark, host in hosts.items():
            if self._taken >= _SAMPLES:
                break
            if self._sampled[host] < _SAMPLE:
                self._sampled[host] += 1
                self._taken += 1
                wanted[known[mark].result] = host
        self._notes.time((wanted[pk], seconds) for pk, seconds in elapsed(list(wanted)).items())


def _judged(counts: Preview, notes: _Notes, limits: Limits) -> Preview:
    """Add what follows from the hosts' counts and times."""
    counts.sampled_hosts, counts.samples, seconds = notes.times()
    usual = seconds / counts.samples if counts.samples else None
    longest = longest_least = work = least_work = 0.0
    busiest: list[tuple[float, int, str, HostPreview]] = []
    for host, targets, conditional, samples, host_seconds, fastest in notes.hosts():
        counts.hosts += 1
        at_least = limits.host_seconds(targets, fastest or 0.0)
        each = host_seconds / samples if samples else usual
        estimate = None if each is None else limits.host_seconds(targets, each)
        longest_least, least_work = max(longest_least, at_least), least_work + targets * (fastest or 0.0)
        longest, work = max(longest, estimate or 0.0), work + targets * (each or 0.0)
        heapq.heappush(
            busiest,
            (estimate or at_least, targets, host, HostPreview(host, targets, conditional, at_least, estimate)),
        )
        if len(busiest) > BUSIEST:
            heapq.heappop(busiest)
    counts.at_least = limits.run_seconds(longest_least, least_work)
    counts.estimate = None if usual is None else limits.run_seconds(longest, work)
    counts.busiest = [item[3] for item in sorted(busiest, reverse=True)]
    return counts
