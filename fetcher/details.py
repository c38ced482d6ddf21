"""How the parts of an outcome that are only read one result at a time are stored: one compressed MessagePack value.

Headers are stored without Set-Cookie; a session belongs to whoever made it.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Headers, Outcome, Timings

_DROPPED = frozenset({"set-cookie", "set-cookie2"})


class RedirectDetail(msgspec.Struct, array_like=True, frozen=True):
    """One hop: the answer's status, the URL that gave it, where it pointed."""

    status: int
    url: str
    location: str


class TimingsDetail(msgspec.Struct, array_like=True, frozen=True):
    """Seconds; None where the phase did not happen."""

    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    total: float | None = None


class AttemptDetail(msgspec.Struct, array_like=True, frozen=True):
    """One try; ``started_at`` in seconds since the epoch, ``elapsed`` and ``waited`` in seconds."""

    number: int
    started_at: float
    elapsed: float
    address: str | None
    http_version: str | None
    http_status: int | None
    error_kind: ErrorKind | None
    error_detail: str
    waited: float | None
    wait_reason: str | None
    timings: TimingsDetail


class Detail(msgspec.Struct, array_like=True, frozen=True):
    """What is stored in ``Result.detail``."""

    headers: Headers = ()
    redirects: tuple[RedirectDetail, ...] = ()
    attempts: tuple[AttemptDetail, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Detail)


def _timings(value: Timings) -> TimingsDetail:
    return TimingsDetail(value.dns, value.connect, value.tls, value.first_byte, value.total)


def encode_detail(outcome: Outcome) -> bytes:
    """Encode an outcome's headers, redirects and attempts."""
    detail = Detail(
        headers=tuple(pair for pair in outcome.headers if pair[0].lower() not in _DROPPED),
        redirects=tuple(RedirectDetail(hop.status, hop.url, hop.location) for hop in outcome.redirects),
        attempts=tuple(
            AttemptDetail(
                number=attempt.number,
                started_at=attempt.started_at,
                elapsed=attempt.elapsed,
                address=attempt.address,
                http_version=attempt.http_version,
                http_status=attempt.http_status,
                error_kind=attempt.error_kind,
                error_detail=attempt.error_detail,
                waited=attempt.waited,
                wait_reason=attempt.wait_reason,
                timings=_timings(attempt.timings),
            )
            for attempt in outcome.attempts
        ),
    )
    try:
        encoded = _encoder.encode(detail)
    except UnicodeEncodeError:  # half a surrogate pair, in the text of an unforeseen error
        encoded = _encoder.encode(_without_surrogates(msgspec.to_builtins(detail)))
    return zlib.compress(encoded, 1)


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case _:
            return value


def decode_detail(stored: bytes | None) -> Detail:
    """Decode what ``encode_detail`` made; nothing stored gives an empty Detail."""
    return Detail() if stored is None else _decoder.decode(zlib.decompress(stored))
