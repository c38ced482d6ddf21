"""Outcomes to results, bodies and counters: one short transaction a batch, and each result at most once."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import F

from fetcher.bodies import BodyUnavailable, read_body
from fetcher.conf import Settings
from fetcher.details import encode_detail
from fetcher.engine.types import Outcome, Status
from fetcher.extraction import Extract
from fetcher.models import Body, Lane, Representation, Result
from fetcher.store.bodies import Content, prepare, save_bodies
from fetcher.store.leases import acquit
from fetcher.store.shards import Place, Previous, mark_done
from fetcher.store.sql import for_database, in_batches, insert_rows, keep_rows
from fetcher.texts import clean_json, clean_text

_FIELDS = (
    "id", "run", "target", "position", "status", "error_kind", "error_detail", "http_status", "attempts", "started_at",
    "elapsed_us", "bytes", "label", "final_url", "representation", "changed", "extracted", "detail",
)  # fmt: skip
_REPRESENTATION_FIELDS = ("id", "body", "content_type", "etag", "last_modified", "variant")
MAX_EXTRACTED = 64 * 2**10
"""Bytes of JSON that an extracted value may take."""
_COUNTERS = ("succeeded", "not_modified", "failed", "skipped")


class LaneLost(Exception):
    """Another worker took over these lanes; nothing of the batch was recorded."""

    def __init__(self, lanes: Sequence[int]) -> None:
        super().__init__(f"lanes {', '.join(map(str, lanes))} are held by another worker")
        self.lanes = frozenset(lanes)


class Recorder:
    """Records a run's outcomes for the worker that holds its lanes (None: lanes that nobody holds).

    ``extract`` gives the JSON value that is saved beside a body, or None; for a 304 it reads the stored body. Without
    ``keep_bodies`` a body's content is not stored, only its figures and hash.
    """

    def __init__(
        self,
        run: int,
        worker: int | None,
        settings: Settings,
        *,
        extract: Extract | None = None,
        keep_bodies: bool = True,
    ) -> None:
        self._run = run
        self._worker = worker
        self._settings = settings
        self._extract = extract
        self._keep_bodies = keep_bodies
        self._unsure: set[int] = set()

    def record(self, outcomes: Sequence[Outcome], *, done: Sequence[int] = ()) -> list[int]:
        """Save outcomes and mark the shards in ``done`` as complete. Returns the ids of the new results, in order.

        Outcomes that were recorded before are left as they are, so a batch may be repeated after a lost connection; the
        results of a commit whose answer was lost then are new ones. Raises LaneLost.
        """
        # A 304 has no content (RFC 9110, section 15.4.5): its nothing is no body that was empty.
        contents = {
            id(outcome): prepare(outcome.body, keep=self._keep_bodies)
            for outcome in outcomes
            if outcome.body is not None and outcome.status is not Status.NOT_MODIFIED
        }
        extracted = [self._extracted(outcome) for outcome in outcomes]
        found = dict(zip(map(id, outcomes), extracted, strict=True))
        with transaction.atomic():
            recorded = _recorded([_place(outcome).result for outcome in outcomes])
            ours = recorded & self._unsure
            fresh = [outcome for outcome in outcomes if _place(outcome).result not in recorded]
            self._count(fresh)
            bodies = save_bodies(
                [contents[id(outcome)] for outcome in fresh if id(outcome) in contents],
                storage=self._settings.body_storage,
                file_threshold=self._settings.body_file_threshold,
            )
            stored = _stored([_place(outcome).previous for outcome in fresh])
            rows, representations = [], []
            for outcome in fresh:
                content = contents.get(id(outcome))
                body = None if content is None else bodies[content.sha256]
                had, row = _representation(outcome, stored(_place(outcome).previous), content, body)
                if row is not None:
                    representations.append(row)
                rows.append(self._row(outcome, had, _changed(outcome, content), *found[id(outcome)]))
            insert_rows(Representation, _REPRESENTATION_FIELDS, representations)
            insert_rows(Result, _FIELDS, rows)
            if done:
                mark_done(done)
                acquit(done)
            self._unsure = ours | {_place(outcome).result for outcome in fresh}
        new, self._unsure = self._unsure, set()
        return [pk for outcome in outcomes if (pk := _place(outcome).result) in new]

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        """Add to the lanes' counters, which also proves that the lanes are still ours."""
        lanes: dict[int, Counter[str]] = {}
        for outcome in outcomes:
            counter = lanes.setdefault(_place(outcome).lane, Counter())
            counter[outcome.status.value] += 1
            counter["bytes"] += len(outcome.body or b"")
        lost = []
        for lane, counter in sorted(lanes.items()):
            changes = {name: F(name) + counter[name] for name in (*_COUNTERS, "bytes") if counter[name]}
            if not Lane.objects.filter(pk=lane, worker=self._worker).update(**changes):
                lost.append(lane)
        if lost:
            raise LaneLost(lost)

    def _row(
        self, outcome: Outcome, representation: int | None, changed: bool | None, extracted: Any, remark: str
    ) -> tuple[Any, ...]:
        place = _place(outcome)
        return (
            place.result,
            self._run,
            place.target,
            place.position,
            outcome.status.value,
            None if outcome.error_kind is None else outcome.error_kind.value,
            clean_text(outcome.error_detail or remark),
            outcome.http_status,
            len(outcome.attempts),
            int(outcome.started_at * 1000),
            round(outcome.elapsed * 1_000_000),
            len(outcome.body or b""),
            None if outcome.target.label is None else clean_text(outcome.target.label),
            None if outcome.final_url == outcome.target.url else outcome.final_url,
            representation,
            changed,
            extracted,
            encode_detail(outcome),
        )

    def _extracted(self, outcome: Outcome) -> tuple[Any, str]:
        """Return the value to save beside the body, and a remark where there is one that is not saved."""
        if self._extract is None:
            return None, ""
        value = self._extract(_with_stored_body(outcome))
        if value is None:
            return None, ""
        value = clean_json(value)
        size = len(json.dumps(value, ensure_ascii=False).encode())
        if size > MAX_EXTRACTED:
            return None, f"the extracted value is not saved: it takes {size} bytes, more than {MAX_EXTRACTED}"
        return for_database(Result, "extracted", value), ""


def _place(outcome: Outcome) -> Place:
    place = outcome.target.key
    assert isinstance(place, Place)
    return place


def _with_stored_body(outcome: Outcome) -> Outcome:
    """Return a 304 with the body and type that it confirms, as far as they are stored; other outcomes as they are."""
    previous = _place(outcome).previous
    if outcome.status is not Status.NOT_MODIFIED or previous is None or not previous.kept:
        return outcome
    try:
        body = read_body(Body.objects.get(pk=previous.body or 0))
    except (Body.DoesNotExist, BodyUnavailable):  # removed since the request was sent
        return outcome
    return msgspec.structs.replace(outcome, headers=(("Content-Type", previous.content_type),), body=body)


def _changed(outcome: Outcome, content: Content | None) -> bool | None:
    """Whether the body differs from the previous good one; None where that cannot be said."""
    if outcome.status is Status.NOT_MODIFIED:
        return False
    previous = _place(outcome).previous
    if outcome.status is not Status.SUCCEEDED or previous is None or previous.sha256 is None or content is None:
        return None
    return content.sha256 != previous.sha256


def _stored(many: Sequence[Previous | None]) -> Callable[[Previous | None], Previous | None]:
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
        return dataclasses.replace(
            previous, representation=None, body=previous.body if previous.body in bodies else None
        )

    return stored


def _representation(
    outcome: Outcome, previous: Previous | None, content: Content | None, body: int | None
) -> tuple[int | None, tuple[Any, ...] | None]:
    """Return the id of the representation that an outcome found, and its row where it is a new one."""
    place = _place(outcome)
    content_type = outcome.header("content-type")
    etag, last_modified = outcome.header("etag"), outcome.header("last-modified")
    if outcome.status is Status.NOT_MODIFIED:
        if previous is None or outcome.target.validators is None:
            return None, None
        # RFC 9111, section 4.3.4: what the 304 does not say stays as it was.
        body, content_type = previous.body, previous.content_type
        etag, last_modified = etag or previous.etag, last_modified or previous.last_modified
    elif outcome.status is not Status.SUCCEEDED:
        etag = last_modified = ""
        if content is None and not content_type:
            return None, None
    found = (body, clean_text(content_type), clean_text(etag), clean_text(last_modified), place.variant)
    if previous is not None and previous.representation is not None and outcome.status is not Status.FAILED:
        known = (previous.body, previous.content_type, previous.etag, previous.last_modified, previous.variant)
        if found == known:
            return previous.representation, None
    return place.result, (place.result, *found)


def _recorded(ids: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for batch in in_batches(ids):
        found.update(Result.objects.filter(id__in=batch).values_list("id", flat=True))
    return found
