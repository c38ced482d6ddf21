"""Outcomes to results, bodies and counters: one short transaction a batch, and each result at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from django.db import transaction

from fetcher.bodies import BodyUnavailable, read_body
from fetcher.conf import Settings, fetch_config
from fetcher.content import is_json
from fetcher.database_errors import is_outage
from fetcher.details import HeaderKeeper, encode_detail
from fetcher.engine.defects import report_defect
from fetcher.engine.errors import ErrorKind
from fetcher.engine.journey import bare_failure
from fetcher.engine.types import Outcome, Status
from fetcher.extraction import NOTHING, Found
from fetcher.models import Body, Lane, Representation, Result
from fetcher.store.bodies import Content, close_all, prepare_all, save_bodies
from fetcher.store.leases import acquit
from fetcher.store.recordable import (
    REPRESENTATION_FIELDS,
    Recordable,
    has_changed,
    place_of,
    representation_of,
    still_stored,
)
from fetcher.store.shards import mark_done
from fetcher.store.sql import add_to_rows, for_database, insert_rows, rows_among
from fetcher.texts import clean_text

_FIELDS = (
    "id", "run", "target", "position", "status", "error_kind", "error_detail", "http_status", "attempts", "started_at",
    "elapsed_us", "bytes", "label", "final_url", "representation", "changed", "extracted", "detail",
)  # fmt: skip
_COUNTERS = ("succeeded", "not_modified", "failed", "skipped", "bytes")
_COUNTER_PLACES = {status: _COUNTERS.index(status.value) for status in Status}
_STATUSES = {status: status.value for status in Status}
_KINDS: dict[ErrorKind | None, str | None] = {None: None, **{kind: kind.value for kind in ErrorKind}}
"""The plain texts: Python looks ``value`` up slowly, and a driver takes a str faster than a StrEnum."""


class LaneLost(Exception):
    """Another worker took over these lanes; nothing of the batch was recorded."""

    def __init__(self, lanes: Sequence[int]) -> None:
        super().__init__(f"lanes {', '.join(map(str, lanes))} are held by another worker")
        self.lanes = frozenset(lanes)


Extracting = Callable[[Iterable[Outcome]], list[Found]]
"""Gives what is saved beside each body, None for nothing, with a remark on what could not be had."""


class Recorder:
    """Records a run's outcomes for the worker that holds its lanes (None: lanes that nobody holds).

    ``extract`` gives the JSON values that are saved beside the bodies; for a 304 it reads the stored body. Without
    ``keep_bodies`` a body's content is not stored, only its figures and hash.
    """

    def __init__(
        self,
        run: int,
        worker: int | None,
        settings: Settings,
        *,
        extract: Extracting | None = None,
        keep_bodies: bool = True,
    ) -> None:
        self._run = run
        self._worker = worker
        self._settings = settings
        self._extract = extract
        self._keep_bodies = keep_bodies
        self._unsure: set[int] = set()
        self._given_up: dict[int, Outcome] = {}
        self._known: frozenset[bytes] = frozenset()
        names = fetch_config()
        self._keeper = HeaderKeeper(names.secret_headers, names.secret_parameters)

    def record(self, outcomes: Sequence[Outcome], *, done: Sequence[int] = ()) -> list[Outcome]:
        """Save outcomes and mark the shards in ``done`` as complete. Returns the new ones as they are stored, in order.

        Mostly this is one transaction. Where a defect or the database refuses it because of an outcome, it is split
        until that one is found, which is stored as ``internal`` in its place.

        Outcomes that were recorded before are left as they are, so a batch may be repeated after a lost connection; the
        results of a commit whose answer was lost then are new ones. Bodies that were spilled are left open. Raises
        LaneLost, SpillFailed, StorageFailed, and DatabaseError for what is no outcome's fault (``is_outage``).
        """
        if self._given_up:  # by a call that was left
            outcomes = [self._given_up.get(place_of(outcome).result, outcome) for outcome in outcomes]
        contents = self._contents(outcomes)
        try:
            prepared = self._prepare(outcomes, contents)
            self._save_all(prepared, done)
        finally:
            close_all(contents)
        new, self._unsure, self._given_up = self._unsure, set(), {}
        return [one.outcome for one in prepared if one.place.result in new]

    def _prepare(self, outcomes: Sequence[Outcome], contents: Sequence[Content | Exception | None]) -> list[Recordable]:
        """Do all that needs no transaction, which should be short."""
        found = []
        for outcome, content, extracted in zip(outcomes, contents, self._extracted(outcomes), strict=True):
            try:
                if isinstance(content, Exception):
                    raise content
                if isinstance(extracted, Exception):
                    raise extracted
                one = Recordable(outcome, place_of(outcome), content, encode_detail(outcome, self._keeper), *extracted)
            except Exception as exc:
                if is_outage(exc):
                    raise
                one = self._give_up(outcome, exc, "preparing the result")
            found.append(one)
        return found

    def _contents(self, outcomes: Sequence[Outcome]) -> Sequence[Content | Exception | None]:
        """Return each body as it is stored, or what went wrong with it."""
        # A 304 has no content (RFC 9110, section 15.4.5): its nothing is no body that was empty.
        bodies = [None if outcome.status is Status.NOT_MODIFIED else outcome.body for outcome in outcomes]
        return prepare_all(bodies, keep=self._keep_bodies, stored=self._known | _kept_before(outcomes))

    def _give_up(self, outcome: Outcome, error: Exception, step: str) -> Recordable:
        """Return the ``internal`` result that takes an outcome's place. Raises the error where that failed as well."""
        place = place_of(outcome)
        if place.result in self._given_up:
            raise error
        detail = report_defect(error, step)
        bare = bare_failure(outcome.target, detail, attempts=outcome.attempts, started_at=outcome.started_at)
        self._given_up[place.result] = bare
        return Recordable(bare, place, None, encode_detail(bare, self._keeper), None, "")

    def _save_all(self, prepared: list[Recordable], done: Sequence[int]) -> None:
        """Save all; what cannot be saved is split, and replaced in the list once it is found."""
        parts = [(0, len(prepared))]  # the first is the last
        while parts:
            begin, end = parts.pop()
            try:
                # The shards with the last part: what a crash before it leaves is found by whoever resumes.
                self._save(prepared[begin:end], () if parts else done)
            except LaneLost:
                raise
            except Exception as exc:
                if end == begin or is_outage(exc):
                    raise
                if end - begin == 1:
                    prepared[begin] = self._give_up(prepared[begin].outcome, exc, "saving the result")
                    parts.append((begin, end))
                else:
                    middle = (begin + end) // 2
                    parts += [(middle, end), (begin, middle)]

    def _save(self, found: Sequence[Recordable], done: Sequence[int]) -> None:
        with transaction.atomic():
            recorded = _recorded([one.place.result for one in found])
            fresh = [one for one in found if one.place.result not in recorded]
            self._count(fresh)
            bodies = save_bodies(
                [one.content for one in fresh if one.content is not None],
                storage=self._settings.body_storage,
                file_threshold=self._settings.body_file_threshold,
            )
            self._insert(fresh, bodies)
            if done:
                mark_done(done)
                acquit(done)
            self._unsure.update(one.place.result for one in fresh)
        self._known = frozenset(bodies)

    def _count(self, fresh: Sequence[Recordable]) -> None:
        """Add to the lanes' counters, once it is proved that the lanes are still ours."""
        lanes: dict[int, list[int]] = {}
        for one in fresh:
            counts = lanes.get(one.place.lane)
            if counts is None:
                counts = lanes[one.place.lane] = [0] * len(_COUNTERS)
            counts[_COUNTER_PLACES[one.outcome.status]] += 1
            counts[-1] += len(one.outcome.body or b"")
        lost = sorted(lanes.keys() - _held(sorted(lanes), self._worker))
        if lost:
            raise LaneLost(lost)
        add_to_rows(Lane, _COUNTERS, [(lane, *counts) for lane, counts in sorted(lanes.items())])

    def _insert(self, fresh: Sequence[Recordable], bodies: dict[bytes, int]) -> None:
        """Insert the results and what they found, in the order of their ids, which is that of the table."""
        stored = still_stored(one.place.previous for one in fresh)
        rows, representations = [], []
        for one in fresh:
            body = None if one.content is None else bodies[one.content.sha256]
            representation, row = representation_of(one, stored(one.place.previous), body)
            if row is not None:
                representations.append(row)
            rows.append(self._row(one, representation))
        insert_rows(Representation, REPRESENTATION_FIELDS, sorted(representations))
        rows.sort()
        insert_rows(Result, _FIELDS, rows)

    def _row(self, one: Recordable, representation: int | None) -> tuple[Any, ...]:
        """Return the values of ``_FIELDS``."""
        outcome, place, target = one.outcome, one.place, one.outcome.target
        return (
            place.result,
            self._run,
            place.target,
            place.position,
            _STATUSES[outcome.status],
            _KINDS[outcome.error_kind],
            clean_text("; ".join(filter(None, (outcome.error_detail, one.remark)))),
            outcome.http_status,
            len(outcome.attempts),
            int(outcome.started_at * 1000),
            round(outcome.elapsed * 1_000_000),
            len(outcome.body or b""),
            None if target.label is None else clean_text(target.label),
            None if outcome.final_url == target.url else outcome.final_url,
            representation,
            has_changed(one),
            one.extracted,
            one.detail,
        )

    def _extracted(self, outcomes: Sequence[Outcome]) -> Sequence[Found | Exception]:
        """Return the values to save beside the bodies, as the database takes them, or what went wrong with one."""
        try:
            return self._found(outcomes)
        except Exception as exc:
            if is_outage(exc):
                raise
            if len(outcomes) == 1:
                return [exc]
        return [one for outcome in outcomes for one in self._extracted([outcome])]

    def _found(self, outcomes: Sequence[Outcome]) -> list[Found]:
        if self._extract is None:
            return [NOTHING] * len(outcomes)
        return [
            found if found.value is None else Found(for_database(Result, "extracted", found.value), found.remark)
            for found in self._extract(map(_with_stored_body, outcomes))
        ]


def _with_stored_body(outcome: Outcome) -> Outcome:
    """Return a 304 with the body and type that it confirms, as far as they are stored; other outcomes as they are."""
    previous = place_of(outcome).previous
    if outcome.status is not Status.NOT_MODIFIED or previous is None or not previous.kept:
        return outcome
    if not is_json(previous.content_type):  # a body in which nothing is looked for may be too large for memory
        return outcome
    try:
        body = read_body(Body.objects.get(pk=previous.body or 0))
    except (Body.DoesNotExist, BodyUnavailable):  # removed since the request was sent
        return outcome
    return msgspec.structs.replace(outcome, headers=(("Content-Type", previous.content_type),), body=body)


def _kept_before(outcomes: Iterable[Outcome]) -> set[bytes]:
    """Return the SHA-256 of what these outcomes' targets had the last time, as far as it was kept."""
    previous = (place_of(outcome).previous for outcome in outcomes)
    return {one.sha256 for one in previous if one is not None and one.kept and one.sha256 is not None}


def _recorded(ids: Sequence[int]) -> set[int]:
    return {row[0] for row in rows_among("SELECT id FROM fetcher_result WHERE id {among}", ids)}


def _held(lanes: Sequence[int], worker: int | None) -> set[int]:
    """Return which of these lanes the worker holds, and keep others from taking them until the transaction is over.

    They are locked in the order in which all others do: no deadlock between the two.
    """
    sql = "SELECT id FROM fetcher_lane WHERE id {among} AND worker_id"
    sql, more = (f"{sql} IS NULL", ()) if worker is None else (f"{sql} = %s", (worker,))
    return {row[0] for row in rows_among(f"{sql} ORDER BY id", lanes, *more, lock="FOR NO KEY UPDATE")}
