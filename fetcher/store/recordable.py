"""An outcome made ready for its rows: what can be said of its body and of what it represents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from fetcher.engine.types import Headers, Outcome, Status
from fetcher.engine.validators import usable_validator
from fetcher.models import Body, Representation
from fetcher.store.bodies import Content
from fetcher.store.shards import Place, Previous
from fetcher.store.sql import keep_rows
from fetcher.texts import clean_text

REPRESENTATION_FIELDS = ("id", "body", "content_type", "etag", "last_modified", "variant")
_DESCRIBING = frozenset({"content-type", "etag", "last-modified"})
_DESCRIBING_SIZES = frozenset(map(len, _DESCRIBING))
"""Looked at first: most headers are others, and a length costs less than a name in small letters."""


class Recordable(msgspec.Struct):
    """An outcome with what is stored of it, as far as that is known without the database."""

    outcome: Outcome
    place: Place
    content: Content | None
    detail: bytes
    extracted: Any
    remark: str


def place_of(outcome: Outcome) -> Place:
    """Return where an outcome belongs."""
    place = outcome.target.key
    assert isinstance(place, Place)
    return place


def has_changed(one: Recordable) -> bool | None:
    """Whether the body differs from the previous good one; None where that cannot be said."""
    status, previous = one.outcome.status, one.place.previous
    if status is Status.NOT_MODIFIED:
        return False
    if status is not Status.SUCCEEDED or previous is None or previous.sha256 is None or one.content is None:
        return None
    return one.content.sha256 != previous.sha256


def still_stored(many: Iterable[Previous | None]) -> Callable[[Previous | None], Previous | None]:
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


def representation_of(
    one: Recordable, previous: Previous | None, body: int | None
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
    """Return what headers say of the content: its type, ETag and Last-Modified; the first of a name counts.

    A validator that cannot be sent back as it is counts as none.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if len(name) in _DESCRIBING_SIZES and (low := name.lower()) in _DESCRIBING:
            found.setdefault(low, value)
    etag, last_modified = found.get("etag", ""), found.get("last-modified", "")
    return found.get("content-type", ""), usable_validator(etag), usable_validator(last_modified)
