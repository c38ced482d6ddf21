"""A shard's payload, and its targets made ready for the engine."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone

from fetcher.engine import types
from fetcher.engine.client import CONDITIONAL_HEADERS
from fetcher.engine.config import WIPED
from fetcher.models import GOOD, PLACES, Result, Shard, Target
from fetcher.secrets import unseal
from fetcher.store.sql import in_batches

Secrets = dict[int, tuple[str, ...]]
"""What is sealed in a shard: the secret values of the target in each place."""
_WIPED_AT_ONCE = 100
"""Shards."""


class Payload(msgspec.Struct, array_like=True):
    """A shard's targets in order: ids, positions in the run's input, and labels where any has one.

    ``retries`` are the places of targets that opt into retries. ``sealed`` holds the literal values of their own secret
    headers, encrypted: for a place the values in the order of its headers that are stored without one.
    """

    targets: list[int]
    positions: list[int]
    labels: list[str | None] | None = None
    retries: list[int] | None = None
    sealed: bytes | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Payload)


def encode_payload(payload: Payload) -> bytes:
    """Compress a payload. Numbers are stored as differences, which are small and compress well."""
    packed = msgspec.structs.replace(
        payload, targets=_differences(payload.targets), positions=_differences(payload.positions)
    )
    return zlib.compress(_encoder.encode(packed), 1)


def decode_payload(stored: bytes) -> Payload:
    """Undo ``encode_payload``."""
    packed = _decoder.decode(zlib.decompress(stored))
    return msgspec.structs.replace(packed, targets=_sums(packed.targets), positions=_sums(packed.positions))


def _differences(numbers: list[int]) -> list[int]:
    return [number - before for number, before in zip(numbers, [0, *numbers], strict=False)]


def _sums(differences: list[int]) -> list[int]:
    total = 0
    return [total := total + difference for difference in differences]


@dataclass(frozen=True, slots=True)
class Previous:
    """The previous good result of a target, as far as the next one needs it.

    ``body`` is its row's id and ``kept`` says whether its content is stored.
    """

    representation: int | None
    body: int | None
    kept: bool
    sha256: bytes | None
    size: int
    etag: str
    last_modified: str
    variant: bytes
    content_type: str
    final_url: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where an outcome belongs: the engine hands it back as ``target.key``. ``result`` is the id to record under."""

    result: int
    target: int
    lane: int
    position: int
    variant: bytes
    previous: Previous | None

    @property
    def shard(self) -> int:
        """The shard whose id range holds the result's."""
        return self.result // PLACES


@dataclass(frozen=True, slots=True)
class Slot:
    """One target of a shard that has no result yet. ``secrets`` are the values of its own secret headers, in order."""

    result: int
    target: int
    lane: int
    position: int
    label: str | None
    retry: bool = False
    secrets: tuple[str, ...] = ()


def open_shards(lanes: Sequence[int], *, after: dict[int, int]) -> list[tuple[int, int]]:
    """Return (lane, shard) of the lanes' shards that are not done, in id order, after each lane's in ``after``."""
    shards = Shard.objects.filter(lane__in=lanes, done_at__isnull=True)
    if after:
        shards = shards.filter(id__gt=min(after.get(lane, 0) for lane in lanes))
    rows = shards.order_by("id").values_list("lane_id", "id")
    return [(lane, shard) for lane, shard in rows if shard > after.get(lane, 0)]


def open_slots(shard: int) -> list[Slot]:
    """Return a shard's targets that have no result yet, in order. Raises UnsealError."""
    row = Shard.objects.values_list("lane_id", "payload").get(pk=shard)
    lane, payload = row[0], decode_payload(bytes(row[1]))
    ids = range(shard * PLACES, (shard + 1) * PLACES)
    done = set(Result.objects.filter(id__gte=ids.start, id__lt=ids.stop).values_list("id", flat=True))
    labels = payload.labels or [None] * len(payload.targets)
    retries = frozenset(payload.retries or ())
    secrets = unseal(payload.sealed, Secrets) if payload.sealed else {}
    slots = (
        Slot(result, target, lane, position, label, place in retries, secrets.get(place, ()))
        for place, (result, target, position, label) in enumerate(
            zip(ids, payload.targets, payload.positions, labels, strict=False)
        )
    )
    return [slot for slot in slots if slot.result not in done]


def mark_done(ids: Sequence[int]) -> None:
    """Note that every target of these shards has its result."""
    Shard.objects.filter(id__in=ids).update(done_at=timezone.now())


def wipe_secrets(run: int) -> None:
    """Remove the secrets of a run's targets from its shards; what the database was given is rewritten without them."""
    after = 0
    while rows := list(
        Shard.objects.filter(run=run, id__gt=after).order_by("id").values_list("id", "payload")[:_WIPED_AT_ONCE]
    ):
        with transaction.atomic():
            for pk, stored in rows:
                payload = decode_payload(bytes(stored))
                if payload.sealed:
                    clean = msgspec.structs.replace(payload, sealed=None)
                    Shard.objects.filter(pk=pk).update(payload=encode_payload(clean))
        after = rows[-1][0]


def load_targets(
    run: int, slots: Sequence[Slot], variant_of: Callable[[types.Headers], bytes], *, conditional: bool = True
) -> list[types.Target]:
    """Return the engine's targets for slots, in their order, each with its Place as ``key``.

    Validators are set only where the previous good result was fetched with the same effective headers (``variant``) and
    its body is still stored: otherwise a 304 would put one credential's body under another's. Nor are they where the
    target has a condition of its own: its 304 says nothing of our body.
    """
    rows = {}
    for batch in in_batches(slots):
        found = Target.objects.filter(id__in=[slot.target for slot in batch]).annotate(previous=newest_good(but=run))
        for row in found.values("id", "method", "url", "host", "headers", "body", "previous"):
            rows[row["id"]] = row
    previous = load_previous([row["previous"] for row in rows.values() if row["previous"] is not None])
    targets = []
    bodies: dict[bytes, bytes] = {}  # often one and the same: kept in memory once
    for slot in slots:
        row = rows[slot.target]
        headers = _own_headers(row["headers"], slot.secrets)
        before = previous.get(row["previous"])
        variant = variant_of(headers)
        body = None if row["body"] is None else bytes(row["body"])
        targets.append(
            types.Target(
                url=row["url"],
                host=row["host"],
                method=row["method"],
                headers=headers,
                body=None if body is None else bodies.setdefault(body, body),
                label=slot.label,
                retry=slot.retry,
                validators=validators_for(before, variant) if conditional and not has_condition(headers) else None,
                key=Place(slot.result, slot.target, slot.lane, slot.position, variant, before),
            )
        )
    return targets


def _own_headers(stored: Sequence[tuple[str, str | None]] | None, secrets: Sequence[str]) -> types.Headers:
    """Return a target's own headers with its secrets put in; one that is missing becomes WIPED, which is never sent."""
    values = iter(secrets)
    return tuple((name, next(values, WIPED) if value is None else value) for name, value in stored or ())


def newest_good(*, but: int | None = None) -> Subquery:
    """Return the expression for the id of a target's newest good result; ``but`` is a run whose own do not count."""
    results = Result.objects.filter(target=OuterRef("pk"), status__in=GOOD)
    if but is not None:
        results = results.exclude(run=but)
    return Subquery(results.order_by("-run_id").values("id")[:1])


def has_condition(headers: types.Headers) -> bool:
    """Whether a target's own headers make its request conditional."""
    return any(name.lower() in CONDITIONAL_HEADERS for name, _ in headers)


def validators_for(previous: Previous | None, variant: bytes) -> types.Validators | None:
    """Return what a conditional request of this variant may send, None where there is nothing to confirm."""
    if previous is None or not previous.kept or previous.variant != variant:
        return None
    if not previous.etag and not previous.last_modified:
        return None
    return types.Validators(previous.etag, previous.last_modified, previous.final_url)


def load_previous(ids: Sequence[int]) -> dict[int | None, Previous]:
    """Return what the next results need of these, by id."""
    found: dict[int | None, Previous] = {}
    kept = Q(representation__body__content__isnull=False) | ~Q(representation__body__file="")
    for batch in in_batches(ids):
        rows = Result.objects.filter(id__in=batch).values(
            "id",
            "representation_id",
            "final_url",
            "target__url",
            sha256=F("representation__body__sha256"),
            size=F("representation__body__size"),
            kept=kept,
            body=F("representation__body_id"),
            etag=F("representation__etag"),
            last_modified=F("representation__last_modified"),
            variant=F("representation__variant"),
            content_type=F("representation__content_type"),
        )
        for row in rows:
            found[row["id"]] = Previous(
                representation=row["representation_id"],
                body=row["body"],
                kept=row["kept"] and row["body"] is not None,
                sha256=None if row["sha256"] is None else bytes(row["sha256"]),
                size=row["size"] or 0,
                etag=row["etag"] or "",
                last_modified=row["last_modified"] or "",
                variant=bytes(row["variant"] or b""),
                content_type=row["content_type"] or "",
                final_url=row["final_url"] or row["target__url"],
            )
    return found
