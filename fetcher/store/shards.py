"""A shard's payload, and its targets made ready for the engine."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from django.db import transaction

from fetcher.engine import types
from fetcher.engine.defects import report_defect
from fetcher.engine.references import RequestHeaders
from fetcher.engine.request_headers import CONDITIONAL_HEADERS, conditional_headers
from fetcher.headers import Sealed, load_headers
from fetcher.models import PLACES, Shard
from fetcher.models.clock import database_now
from fetcher.secrets import unseal
from fetcher.store.sql import rows_among

Secrets = dict[int, Sealed]
"""What is sealed in a shard: the secret values of the target in each place."""
NEWEST_GOOD = """(
    SELECT id FROM fetcher_result WHERE target_id = t.id AND run_id <> %s AND status IN ('succeeded', 'not_modified')
    ORDER BY run_id DESC LIMIT 1
)"""
"""SQL for the id of a target's newest good result; ``t`` is the target, the parameter a run whose own do not count."""
_TARGETS = f"""WITH t AS (SELECT id, method, url, host, headers, body FROM fetcher_target WHERE id {{among}})
SELECT id, method, url, host, headers, body, {NEWEST_GOOD} FROM t"""
_PREVIOUS = """
SELECT
    r.id, r.representation_id, p.body_id, b.content IS NOT NULL OR b.file <> '', b.sha256, COALESCE(b.size, 0),
    COALESCE(p.etag, ''), COALESCE(p.last_modified, ''), p.variant, COALESCE(p.content_type, ''),
    COALESCE(r.final_url, t.url)
FROM fetcher_result r
JOIN fetcher_target t ON t.id = r.target_id
LEFT JOIN fetcher_representation p ON p.id = r.representation_id
LEFT JOIN fetcher_body b ON b.id = p.body_id
WHERE r.id {among}"""
"""A result's id and the fields of ``Previous``."""
_DONE = f"""SELECT r.id FROM fetcher_shard s
JOIN fetcher_result r ON r.id >= s.id * {PLACES} AND r.id < (s.id + 1) * {PLACES} WHERE s.id {{among}}"""
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


# Structs of msgspec: one of each is made for every target, and a frozen dataclass costs five times as much.


class Previous(msgspec.Struct, frozen=True, gc=False):
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


class Place(msgspec.Struct, frozen=True, gc=False):
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


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One target of a shard that has no result yet. ``secrets`` are the values of its own secret headers, in order."""

    result: int
    target: int
    lane: int
    position: int
    label: str | None
    retry: bool = False
    secrets: Sealed = ()


def open_shards(lanes: Sequence[int], *, after: dict[int, int]) -> list[tuple[int, int]]:
    """Return (lane, shard) of the lanes' shards that are not done, in id order, after each lane's in ``after``."""
    shards = Shard.objects.filter(lane__in=lanes, done_at__isnull=True)
    if after:
        shards = shards.filter(id__gt=min(after.get(lane, 0) for lane in lanes))
    rows = shards.order_by("id").values_list("lane_id", "id")
    return [(lane, shard) for lane, shard in rows if shard > after.get(lane, 0)]


def open_slots(shards: Sequence[int]) -> dict[int, list[Slot]]:
    """Return for each of these shards its targets that have no result yet, in order. Raises UnsealError."""
    payloads = rows_among("SELECT id, lane_id, payload FROM fetcher_shard WHERE id {among}", shards)
    done = {row[0] for row in rows_among(_DONE, shards)}
    return {
        shard: [slot for slot in _slots(shard, lane, decode_payload(stored)) if slot.result not in done]
        for shard, lane, stored in payloads
    }


def _slots(shard: int, lane: int, payload: Payload) -> list[Slot]:
    count, first = len(payload.targets), shard * PLACES
    labels = payload.labels or [None] * count
    retries = frozenset(payload.retries or ())
    secrets = unseal(payload.sealed, Secrets) if payload.sealed else {}
    return [
        Slot(first + place, target, lane, position, label, place in retries, secrets.get(place, ()))
        for place, target, position, label in zip(range(count), payload.targets, payload.positions, labels, strict=True)
    ]


def mark_done(ids: Sequence[int]) -> None:
    """Note that every target of these shards has its result."""
    Shard.objects.filter(id__in=ids).update(done_at=database_now())


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
    run: int, slots: Sequence[Slot], variant_of: Callable[[RequestHeaders], bytes], *, conditional: bool = True
) -> list[types.Target]:
    """Return the engine's targets for slots, in their order, each with its Place as ``key``.

    Validators are set only where the previous good result was fetched with the same effective headers (``variant``) and
    its body is still stored: otherwise a 304 would put one credential's body under another's. Nor are they where the
    target has a condition of its own: its 304 says nothing of our body.
    """
    rows = {row[0]: row for row in rows_among(_TARGETS, [slot.target for slot in slots], run)}
    previous = load_previous([row[-1] for row in rows.values() if row[-1] is not None])
    targets = []
    bodies: dict[bytes, bytes] = {}  # often one and the same: kept in memory once
    for slot in slots:
        row = rows[slot.target]
        try:
            targets.append(_target(slot, row, previous.get(row[-1]), variant_of, bodies, conditional=conditional))
        except Exception as exc:  # noqa: BLE001  (what is stored of it costs this target only)
            place = Place(slot.result, slot.target, slot.lane, slot.position, b"", None)
            refused = report_defect(exc, "loading the target")
            targets.append(types.Target(row[2], row[3], label=slot.label, refused=refused, key=place))
    return targets


def _target(
    slot: Slot,
    row: Sequence[Any],
    before: Previous | None,
    variant_of: Callable[[RequestHeaders], bytes],
    bodies: dict[bytes, bytes],
    *,
    conditional: bool,
) -> types.Target:
    _, method, url, host, stored, body, _ = row
    headers = load_headers(stored, slot.secrets) if stored is not None else ()
    variant = variant_of(headers)
    asks = conditional and before is not None and not has_condition(headers)
    return types.Target(
        url=url,
        host=host,
        method=method,
        headers=headers,
        body=None if body is None else bodies.setdefault(body, body),
        label=slot.label,
        retry=slot.retry,
        validators=validators_for(before, variant) if asks else None,
        key=Place(slot.result, slot.target, slot.lane, slot.position, variant, before),
    )


def has_condition(headers: RequestHeaders) -> bool:
    """Whether a target's own headers make its request conditional."""
    return any(name.lower() in CONDITIONAL_HEADERS for name, _ in headers)


def validators_for(previous: Previous | None, variant: bytes) -> types.Validators | None:
    """Return what a conditional request of this variant may send, None where there is nothing to confirm."""
    if previous is None or not previous.kept or previous.variant != variant:
        return None
    found = types.Validators(previous.etag, previous.last_modified, previous.final_url)
    return found if conditional_headers(found) else None


def load_previous(ids: Sequence[int]) -> dict[int | None, Previous]:
    """Return what the next results need of these, by id."""
    return {
        pk: Previous(found, body, bool(kept), sha256, size, etag, modified, variant or b"", kind, url)
        for pk, found, body, kept, sha256, size, etag, modified, variant, kind, url in rows_among(_PREVIOUS, ids)
    }
