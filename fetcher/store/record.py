"""Outcomes to results, bodies and counters: one short transaction a batch, and each result at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from django.db import transaction

from fetcher.bodies import BodyUnavailable, read_body
from fetcher.conf import Settings
from fetcher.content import is_json
from fetcher.details import encode_detail
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Headers, Outcome, Status
from fetcher.extraction import NOTHING, Found
from fetcher.models import Body, Lane, Representation, Result
from fetcher.store.bodies import Content, close_all, prepare_all, save_bodies
from fetcher.store.leases import acquit
from fetcher.store.shards import Place, Previous, mark_done
from fetcher.store.sql import add_to_rows, for_database, insert_rows, keep_rows, rows_among
from fetcher.texts import clean_text

_FIELDS = (
    "id", "run", "target", "position", "status", "error_kind", "error_detail", "http_status", "attempts", "started_at",
    "elapsed_us", "bytes", "label", "final_url", "representation", "changed", "extracted", "detail",
)  # fmt: skip
_REPRESENTATION_FIELDS = ("id", "body", "content_type", "etag", "last_modified", "variant")
_DESCRIBING = frozenset({"content-type", "etag", "last-modified"})
_DESCRIBING_SIZES = frozenset(map(len, _DESCRIBING))
"""Looked at first: most headers are others, and a length costs less than a name in small letters."""
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


class _Found(msgspec.Struct):
    """An outcome with what is stored of it, as far as that is known without the database."""

    outcome: Outcome
    place: Place
    content: Content | None
    detail: bytes
    extracted: Any
    remark: str


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
        self._known: frozenset[bytes] = frozenset()

    def record(self, outcomes: Sequence[Outcome], *, done: Sequence[int] = ()) -> list[int]:
        """Save outcomes and mark the shards in ``done`` as complete. Returns the ids of the new results, in order.

        Outcomes that were recorded before are left as they are, so a batch may be repeated after a lost connection; the
        results of a commit whose answer was lost then are new ones. Bodies that were spilled are left open. Raises
        LaneLost, SpillFailed.
        """
        # A 304 has no content (RFC 9110, section 15.4.5): its nothing is no body that was empty.
        contents = prepare_all(
            [None if outcome.status is Status.NOT_MODIFIED else outcome.body for outcome in outcomes],
            keep=self._keep_bodies,
            stored=self._known | _kept_before(outcomes),
        )
        try:
            return self._record(outcomes, contents, done)
        finally:
            close_all(contents)

    def _record(
        self, outcomes: Sequence[Outcome], contents: Sequence[Content | None], done: Sequence[int]
    ) -> list[int]:
        # All that needs no database comes before the transaction, which should be short.
        found = [
            _Found(outcome, _place(outcome), content, encode_detail(outcome), *extracted)
            for outcome, content, extracted in zip(outcomes, contents, self._extracted(outcomes), strict=True)
        ]
        with transaction.atomic():
            recorded = _recorded([one.place.result for one in found])
            ours = recorded & self._unsure
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
            self._unsure = ours | {one.place.result for one in fresh}
        new, self._unsure = self._unsure, set()
        self._known = frozenset(bodies)
        return [one.place.result for one in found if one.place.result in new]

    def _count(self, fresh: Sequence[_Found]) -> None:
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

    def _insert(self, fresh: Sequence[_Found], bodies: dict[bytes, int]) -> None:
        """Insert the results and what they found, in the order of their ids, which is that of the table."""
        stored = _stored(one.place.previous for one in fresh)
        rows, representations = [], []
        for one in fresh:
            body = None if one.content is None else bodies[one.content.sha256]
            representation, row = _representation(one, stored(one.place.previous), body)
            if row is not None:
                representations.append(row)
            rows.append(self._row(one, representation))
        insert_rows(Representation, _REPRESENTATION_FIELDS, sorted(representations))
        rows.sort()
        insert_rows(Result, _FIELDS, rows)

    def _row(self, one: _Found, representation: int | None) -> tuple[Any, ...]:
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
            _changed(one),
            one.extracted,
            one.detail,
        )

    def _extracted(self, outcomes: Sequence[Outcome]) -> list[Found]:
        """Return the values to save beside the bodies, as the database takes them."""
        if self._extract is None:
            return [NOTHING] * len(outcomes)
        return [
            found if found.value is None else Found(for_database(Result, "extracted", found.value), found.remark)
            for found in self._extract(map(_with_stored_body, outcomes))
        ]


def _place(outcome: Outcome) -> Place:
    place = outcome.target.key
    assert isinstance(place, Place)
    return place


def _with_stored_body(outcome: Outcome) -> Outcome:
    """Return a 304 with the body and type that it confirms, as far as they are stored; other outcomes as they are."""
    previous = _place(outcome).previous
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
    previous = (_place(outcome).previous for outcome in outcomes)
    return {one.sha256 for one in previous if one is not None and one.kept and one.sha256 is not None}


def _changed(one: _Found) -> bool | None:
    """Whether the body differs from the previous good one; None where that cannot be said."""
    status, previous = one.outcome.status, one.place.previous
    if status is Status.NOT_MODIFIED:
        return False
    if status is not Status.SUCCEEDED or previous is None or previous.sha256 is None or one.content is None:
        return None
    return one.content.sha256 != previous.sha256


def _stored(many: Iterable[Previous | None]) -> Callable[[Previous | None], Previous | None]:
    """Return the function from what was known of previous results to what is still stored of it.

    Pruning may have removed a representation or a body since it was read; what is left is held until the transaction
    is over.
    """
    found = [previous for previous in many if previous is not None]
    representations = keep_rows(
        Representation, [previous.representation for previous in found if previous.representation is not None]
    )
    gone = [previous.body for previous in found if previous.representation not in representations]
    bodies = keep_rows(Body, [body for body in gone if body is not None])

    def stored(previous: Previous | None) -> Previous | None:
        if previous is None or previous.representation in representations:
            return previous
        return msgspec.structs.replace(
            previous, representation=None, body=previous.body if previous.body in bodies else None
        )

    return stored


def _representation(
    one: _Found, previous: Previous | None, body: int | None
) -> tuple[int | None, tuple[Any, ...] | None]:
    """Return the id of the representation that an outcome found, and its row where it is a new one."""
    outcome, place = one.outcome, one.place
    content_type, etag, last_modified = _described(outcome.headers)
    if outcome.status is Status.NOT_MODIFIED:
        if previous is None or outcome.target.validators is None:
            return None, None
        # RFC 9111, section 4.3.4: what the 304 does not say stays as it was.
        body, content_type = previous.body, previous.content_type
        etag, last_modified = etag or previous.etag, last_modified or previous.last_modified
    elif outcome.status is not Status.SUCCEEDED:
        etag = last_modified = ""
        if one.content is None and not content_type:
            return None, None
    found = (body, clean_text(content_type), clean_text(etag), clean_text(last_modified), place.variant)
    if previous is not None and previous.representation is not None and outcome.status is not Status.FAILED:
        known = (previous.body, previous.content_type, previous.etag, previous.last_modified, previous.variant)
        if found == known:
            return previous.representation, None
    return place.result, (place.result, *found)


def _described(headers: Headers) -> tuple[str, str, str]:
    """Return what headers say of the content: its type, ETag and Last-Modified; the first of a name counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if len(name) in _DESCRIBING_SIZES and (low := name.lower()) in _DESCRIBING:
            found.setdefault(low, value)
    return found.get("content-type", ""), found.get("etag", ""), found.get("last-modified", "")


def _recorded(ids: Sequence[int]) -> set[int]:
    return {row[0] for row in rows_among("SELECT id FROM fetcher_result WHERE id {among}", ids)}


def _held(lanes: Sequence[int], worker: int | None) -> set[int]:
    """Return which of these lanes the worker holds, and keep others from taking them until the transaction is over.

    They are locked in the order in which all others do: no deadlock between the two.
    """
    sql = "SELECT id FROM fetcher_lane WHERE id {among} AND worker_id"
    sql, more = (f"{sql} IS NULL", ()) if worker is None else (f"{sql} = %s", (worker,))
    return {row[0] for row in rows_among(f"{sql} ORDER BY id", lanes, *more, lock="FOR NO KEY UPDATE")}
