"""How the parts of an outcome that are only read one result at a time are stored: one MessagePack value.

Small on purpose: a result is written for every URL of every run. Whatever is as usual is left out (fields at the end of
an array, or a default), and long ones are compressed. A compressed value begins with zstd's magic number (older ones:
with 0x78, zlib's), an array with 0x90 to 0x9f.

Headers are stored without Set-Cookie: a session belongs to whoever made it. Of other headers with the name of a secret
the value is masked, and so are passwords and secret parameters where a header's value is a URL. Those of a 304 are not
stored: what they say of the content is in the representation.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from fetcher.engine.errors import ErrorKind
from fetcher.engine.sensitive import MASK, mask_text, mask_url, secret_headers
from fetcher.engine.types import Attempt, Headers, Outcome, Status
from fetcher.packing import MAGIC, pack, unpack
from fetcher.texts import clean_json

_DROPPED = frozenset({"set-cookie", "set-cookie2"})
_URLS = ("location", "-url", "-uri", "-redirect")
"""How the names of headers end whose value is a URL."""
_WITH_URLS = frozenset({"link", "refresh"})
"""Headers with URLs among other things."""
_KNOWN_NAMES = 1024
_KNOWN_LENGTH = 64
"""Names, and characters of each, that are remembered: servers choose them."""
_WORTH_PACKING = 512
"""Bytes; of shorter ones no more than a tenth would be saved."""
_ZLIB = b"\x78"


class RedirectDetail(msgspec.Struct, array_like=True, frozen=True):
    """One hop: the answer's status, the URL that gave it, where it pointed."""

    status: int
    url: str
    location: str


class AttemptDetail(msgspec.Struct, array_like=True, frozen=True):
    """One try, in the order of the attempts. Names in ``_us`` are microseconds, ``after_ms`` counts from the first."""

    elapsed_us: int = 0
    first_byte_us: int | None = None
    address: str | None = None
    http_status: int | None = None
    connect_us: int | None = None
    dns_us: int | None = None
    tls_us: int | None = None
    after_ms: int = 0
    error_kind: ErrorKind | None = None
    error_detail: str = ""
    waited_us: int | None = None
    wait_reason: str | None = None
    http_version: str | None = "HTTP/1.1"


class Detail(msgspec.Struct, array_like=True, frozen=True):
    """What is stored in ``Result.detail``."""

    attempts: tuple[AttemptDetail, ...] = ()
    redirects: tuple[RedirectDetail, ...] = ()
    headers: Headers = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Detail)
_USUAL_ATTEMPT = msgspec.structs.astuple(AttemptDetail())
_WITHOUT_FAILURE = AttemptDetail.__struct_fields__.index("error_kind")
"""Fields that one has that did not fail."""


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)


def _attempt(attempt: Attempt, first: float) -> tuple[Any, ...]:
    """Return the fields of AttemptDetail in their order, as a tuple: no struct is made of each."""
    timings = attempt.timings
    after = attempt.started_at - first
    values = (
        round(attempt.elapsed * 1_000_000),
        _microseconds(timings.first_byte),
        attempt.address,
        attempt.http_status,
        _microseconds(timings.connect),
        _microseconds(timings.dns),
        _microseconds(timings.tls),
        round(after * 1000) if after > 0 else 0,
        attempt.error_kind,
        attempt.error_detail,
        _microseconds(attempt.waited),
        attempt.wait_reason,
        attempt.http_version,
    )
    plain = attempt.error_kind is None and attempt.waited is None and attempt.http_version == _USUAL_ATTEMPT[-1]
    kept = _WITHOUT_FAILURE if plain else len(values)
    while kept and values[kept - 1] == _USUAL_ATTEMPT[kept - 1]:
        kept -= 1
    return values[:kept]


class HeaderKeeper:
    """Says what of an answer's headers is stored; the arguments are the operator's names of secrets.

    A name is judged once: nearly all answers have the same ones.
    """

    def __init__(self, headers: frozenset[str] = frozenset(), parameters: frozenset[str] = frozenset()) -> None:
        self._secret = secret_headers(headers)
        self._parameters = parameters
        self._plain: dict[str, bool] = {}

    def keep(self, headers: Headers) -> Sequence[tuple[str, str]]:
        """Return the headers without secrets."""
        plain = self._plain
        try:
            if all([plain[name] for name, _ in headers]):  # noqa: C419  (a generator costs more than it spares)
                return headers
        except KeyError:
            pass
        kept = (self._kept(name, value) for name, value in headers)
        return [pair for pair in kept if pair is not None]

    def _kept(self, name: str, value: str) -> tuple[str, str] | None:
        low = name.lower()
        secret = low in self._secret
        is_url = low.endswith(_URLS)
        self._note(name, plain=not (secret or is_url or low in _WITH_URLS or low in _DROPPED))
        if low in _DROPPED:
            return None
        if secret:
            return name, MASK
        if is_url:
            return name, mask_url(value, self._parameters)
        return name, mask_text(value, self._parameters) if low in _WITH_URLS else value

    def _note(self, name: str, *, plain: bool) -> None:
        if len(name) <= _KNOWN_LENGTH:
            if len(self._plain) >= _KNOWN_NAMES:
                self._plain.clear()
            self._plain[name] = plain


_USUAL_NAMES = HeaderKeeper()


def encode_detail(outcome: Outcome, keeper: HeaderKeeper = _USUAL_NAMES) -> bytes:
    """Encode an outcome's headers, redirects and attempts."""
    kept = () if outcome.status is Status.NOT_MODIFIED else keeper.keep(outcome.headers)
    parts: list[Any] = [
        [_attempt(attempt, outcome.started_at) for attempt in outcome.attempts],
        [(hop.status, hop.url, hop.location) for hop in outcome.redirects],
        kept,
    ]
    while parts and not parts[-1]:
        parts.pop()
    try:
        encoded = _encoder.encode(parts)
    except UnicodeEncodeError:  # half a surrogate pair, in the text of an unforeseen error
        encoded = _encoder.encode(clean_json(parts))
    return encoded if len(encoded) < _WORTH_PACKING else pack(encoded) or encoded


def decode_detail(stored: bytes | None) -> Detail:
    """Decode what ``encode_detail`` made; nothing stored gives an empty Detail."""
    if stored is None:
        return Detail()
    raw = bytes(stored)
    if raw.startswith(MAGIC):
        raw = unpack(raw)
    elif raw[:1] == _ZLIB:
        raw = zlib.decompress(raw)
    return _decoder.decode(raw)
