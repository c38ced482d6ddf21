"""The shapes that readers get: the API, ``--output ndjson|json`` and exports all build them here.

Three rules hold for every shape: what is not known is null, never an empty string; a time is RFC 3339 in UTC with
milliseconds (``2026-03-01T12:00:00.000Z``); a name that ends in ``_ms`` is milliseconds with at most three decimals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings
from django.db.models import Q, QuerySet, Sum
from django.urls import NoReverseMatch, get_script_prefix, reverse

from fetcher.details import AttemptDetail, decode_detail
from fetcher.engine.references import EnvReference, HeaderValue
from fetcher.engine.sensitive import MASK
from fetcher.headers import load_headers
from fetcher.models import Lane, Result, RunQuerySet
from fetcher.shown import shown_options, shown_value
from fetcher.texts import clean_json, escape_json

_DROPPED = frozenset({"set-cookie", "set-cookie2"})
_COUNTERS = ("planned", "succeeded", "not_modified", "failed", "skipped", "bytes")

RESULT_FIELDS = (
    "id", "run_id", "position", "target__url", "final_url", "target__method", "target__host", "label", "status",
    "http_status", "error_kind", "error_detail", "attempts", "started_at", "elapsed_us", "bytes",
    "representation__content_type", "representation__body__sha256", "changed", "extracted",
)  # fmt: skip
"""The columns of a ``ResultItem``; ``result_rows`` asks for them."""
_BODY_KEPT = Q(representation__body__content__isnull=False) | ~Q(representation__body__file="")

RUN_FIELDS = (
    "id", "label", "shown_state", "job_name", "source", "created_at", "started_at", "finished_at", "duplicates",
    "rejected", "error", "options",
)  # fmt: skip
"""What ``.with_shown_state().values(*RUN_FIELDS)`` must ask for, so that a row makes a ``RunItem``."""


class ResultItem(msgspec.Struct, frozen=True):
    """A result as lists show it.

    ``final_url`` is where redirects led, or ``url`` itself. ``host`` is the politeness key. ``attempts`` counts the
    first. ``bytes`` are the decoded bytes received in this run. ``body_sha256`` is hexadecimal; ``body_url`` is an
    absolute path and null where no body is stored.
    """

    id: int
    run: int
    position: int
    url: str
    final_url: str
    method: str
    host: str
    label: str | None
    status: str
    http_status: int | None
    error_kind: str | None
    error_detail: str | None
    attempts: int
    started_at: str
    finished_at: str
    elapsed_ms: float
    bytes: int
    content_type: str | None
    body_sha256: str | None
    body_url: str | None
    changed: bool | None
    extracted: Any


class RedirectItem(msgspec.Struct, frozen=True):
    """One hop: the answer's status, the URL that gave it, where it pointed."""

    status: int
    url: str
    location: str


class TimingsItem(msgspec.Struct, frozen=True):
    """Milliseconds; null where the phase did not happen (a kept-alive connection has no ``connect_ms``)."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float | None


class AttemptItem(msgspec.Struct, frozen=True):
    """One try of the target; ``waited_ms`` is the wait that followed, ``wait_reason`` backoff or retry_after."""

    number: int
    started_at: str
    elapsed_ms: float
    address: str | None
    http_version: str | None
    http_status: int | None
    error_kind: str | None
    error_detail: str | None
    waited_ms: float | None
    wait_reason: str | None
    timings: TimingsItem


class RequestItem(msgspec.Struct, frozen=True):
    """What the target itself asked for: run-wide headers are in the run's ``options``.

    Values of secret headers are ``***``. The body may hold a password too, so only its length is told.
    """

    method: str
    url: str
    headers: dict[str, str]
    body_bytes: int | None


class ResultDetail(ResultItem, frozen=True):
    """A result alone.

    ``headers`` maps lower-case names to values; a header that came several times has its values joined by ``", "``
    (RFC 9110, section 5.3; Set-Cookie, the one that cannot be joined, is never stored). ``timings`` are the last
    attempt's, null where none was made.
    """

    headers: dict[str, str]
    redirects: list[RedirectItem]
    attempt_log: list[AttemptItem]
    timings: TimingsItem | None
    request: RequestItem


class RunItem(msgspec.Struct, frozen=True):
    """A run.

    ``total`` counts accepted targets, ``pending`` those without a result; ``bytes`` are decoded bytes. ``error`` says
    why a failed run cannot be gone on with, and is null for any other.
    """

    id: int
    label: str | None
    state: str
    job: str | None
    source: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    total: int
    pending: int
    succeeded: int
    not_modified: int
    failed: int
    skipped: int
    duplicates: int
    rejected: int
    bytes: int
    error: str | None
    options: dict[str, Any]


class Page(msgspec.Struct, frozen=True):
    """A part of a list; ``next`` is the cursor of the part that follows, null at the end."""

    items: Sequence[Any]
    next: str | None


_encoder = msgspec.json.Encoder()


def encode(obj: Any) -> bytes:
    """Encode a payload as JSON.

    Half a surrogate pair becomes a question mark, NaN and infinities null; what a terminal would obey is escaped.
    """
    try:
        return escape_json(_encoder.encode(obj))
    except UnicodeEncodeError:
        return escape_json(_encoder.encode(clean_json(msgspec.to_builtins(obj))))


def encode_line(obj: Any) -> bytes:
    """Encode a payload as one line of NDJSON, its newline included."""
    return encode(obj) + b"\n"


def timestamp(value: datetime) -> str:
    """Write a time as RFC 3339 in UTC with milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _timestamp_or_none(value: datetime | None) -> str | None:
    return None if value is None else timestamp(value)


def _milliseconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


@lru_cache(maxsize=8)
def _body_path(prefix: str, urlconf: str) -> tuple[str, str] | None:
    # One reverse for all rows: it costs as much as the rest of a row.
    try:
        head, _, tail = reverse("fetcher:result-body", args=[0]).rpartition("0")
    except NoReverseMatch:
        return None
    return head, tail


def body_url(result: int) -> str | None:
    """Return the absolute path of a result's body; None in a project that does not mount the API."""
    path = _body_path(get_script_prefix(), settings.ROOT_URLCONF)
    return None if path is None else f"{path[0]}{result}{path[1]}"


def _item_values(row: Mapping[str, Any]) -> dict[str, Any]:
    sha256 = row["representation__body__sha256"]
    elapsed = timedelta(microseconds=row["elapsed_us"])
    return {
        "id": row["id"],
        "run": row["run_id"],
        "position": row["position"],
        "url": row["target__url"],
        "final_url": row["final_url"] or row["target__url"],
        "method": row["target__method"],
        "host": row["target__host"],
        "label": row["label"] or None,
        "status": row["status"],
        "http_status": row["http_status"],
        "error_kind": row["error_kind"],
        "error_detail": row["error_detail"] or None,
        "attempts": row["attempts"],
        "started_at": timestamp(row["started_at"]),
        "finished_at": timestamp(row["started_at"] + elapsed),
        "elapsed_ms": row["elapsed_us"] / 1000,
        "bytes": row["bytes"],
        "content_type": row["representation__content_type"] or None,
        "body_sha256": None if sha256 is None else bytes(sha256).hex(),
        "body_url": body_url(row["id"]) if sha256 is not None and row["body_kept"] else None,
        "changed": row["changed"],
        "extracted": row["extracted"],
    }


def result_rows(results: QuerySet[Result], *more: str) -> QuerySet[Result, Any]:
    """Return the rows that ``result_item`` reads, with the columns ``more``. No body's content is loaded."""
    rows: QuerySet[Result, Any] = results.values(*RESULT_FIELDS, *more, body_kept=_BODY_KEPT)
    return rows


def result_item(row: Mapping[str, Any]) -> ResultItem:
    """Build the list form from one row of ``result_rows``."""
    return ResultItem(**_item_values(row))


def result_items(ids: Sequence[int]) -> list[ResultItem]:
    """Return the list form of these results in the order of ``ids``, in one query; unknown ids are left out."""
    rows = {row["id"]: row for row in result_rows(Result.objects.filter(id__in=ids))}
    return [result_item(rows[number]) for number in ids if number in rows]


def result_detail(number: int) -> ResultDetail | None:
    """Return one result with all that is known of it, or None where there is none of this id."""
    row = result_rows(Result.objects.filter(id=number), "detail", "target__headers", "target__body").first()
    if row is None:
        return None
    detail = decode_detail(row["detail"])
    attempts = [_attempt(number, attempt, row["started_at"]) for number, attempt in enumerate(detail.attempts, 1)]
    return ResultDetail(
        **_item_values(row),
        headers=shown_headers(detail.headers),
        redirects=[RedirectItem(hop.status, hop.url, hop.location) for hop in detail.redirects],
        attempt_log=attempts,
        timings=attempts[-1].timings if attempts else None,
        request=RequestItem(
            method=row["target__method"],
            url=row["target__url"],
            headers=shown_headers(load_headers(row["target__headers"])),
            body_bytes=None if row["target__body"] is None else len(row["target__body"]),
        ),
    )


def shown_headers(headers: Iterable[tuple[str, HeaderValue]]) -> dict[str, str]:
    """Return headers as an object of lower-case names, secrets masked, repeated ones joined (RFC 9110, section 5.3)."""
    shown: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in _DROPPED:
            continue
        text = MASK if isinstance(value, EnvReference) else shown_value(name, value)
        shown[key] = f"{shown[key]}, {text}" if key in shown and text != MASK else text
    return shown


def _attempt(number: int, value: AttemptDetail, first: datetime) -> AttemptItem:
    return AttemptItem(
        number=number,
        started_at=timestamp(first + timedelta(milliseconds=value.after_ms)),
        elapsed_ms=value.elapsed_us / 1000,
        address=value.address,
        http_version=value.http_version if value.address else None,
        http_status=value.http_status,
        error_kind=value.error_kind,
        error_detail=value.error_detail or None,
        waited_ms=_milliseconds(value.waited_us),
        wait_reason=value.wait_reason,
        timings=TimingsItem(
            dns_ms=_milliseconds(value.dns_us),
            connect_ms=_milliseconds(value.connect_us),
            tls_ms=_milliseconds(value.tls_us),
            first_byte_ms=_milliseconds(value.first_byte_us),
            total_ms=_milliseconds(value.elapsed_us),
        ),
    )


def run_item(row: Mapping[str, Any], counters: Mapping[str, int]) -> RunItem:
    """Build a run from one row of ``RUN_FIELDS`` and the sums of its lanes' counters (none: no lane yet)."""
    count = {name: counters.get(name) or 0 for name in _COUNTERS}
    done = count["succeeded"] + count["not_modified"] + count["failed"] + count["skipped"]
    return RunItem(
        id=row["id"],
        label=row["label"] or None,
        state=row["shown_state"],
        job=row["job_name"] or None,
        source=row["source"] or None,
        created_at=timestamp(row["created_at"]),
        started_at=_timestamp_or_none(row["started_at"]),
        finished_at=_timestamp_or_none(row["finished_at"]),
        total=count["planned"],
        pending=count["planned"] - done,
        succeeded=count["succeeded"],
        not_modified=count["not_modified"],
        failed=count["failed"],
        skipped=count["skipped"],
        duplicates=row["duplicates"],
        rejected=row["rejected"],
        bytes=count["bytes"],
        error=row["error"] or None,
        options=shown_options(row["options"]),
    )


def run_items(runs: RunQuerySet) -> list[RunItem]:
    """Return these runs in the queryset's order: one query for the rows, one for all their lanes' counters."""
    rows: list[Any] = list(runs.with_shown_state().values(*RUN_FIELDS))
    sums: Iterable[Any] = (
        Lane.objects.filter(run__in=[row["id"] for row in rows])
        .order_by()
        .values("run_id")
        .annotate(**{f"{name}_sum": Sum(name) for name in _COUNTERS})
    )
    counters = {row["run_id"]: {name: row[f"{name}_sum"] for name in _COUNTERS} for row in sums}
    return [run_item(row, counters.get(row["id"], {})) for row in rows]
