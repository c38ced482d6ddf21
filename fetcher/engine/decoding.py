"""Content decoding with bounds: a body is expanded step by step and never past the limit.

RFC 9110, section 8.4. The bounds are on the output, on the bytes between two codings, on the number of members and
frames, and on what one step holds (``fetcher.engine.codings``). The caller takes the steps and bounds the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fetcher.engine.codings import DECODERS, STEP, decode_layer, decoding_failed
from fetcher.engine.errors import TooLarge

ACCEPT_ENCODING = "gzip, deflate, br, zstd"
"""The value of Accept-Encoding: every coding that is decoded, except identity."""

MAX_CODINGS = 3
_FREE_MEMBERS = 10_000
_MEMBER_BYTES = 1024
"""A body may have 10,000 gzip members or zstd frames, and one more for each KiB of the limit.

Real members hold more: 64 KiB in BGZF, a few KiB in archives and logs that compress each record by itself.
"""
_SHOWN_CHARACTERS = 50


def read_codings(values: Sequence[str]) -> tuple[list[str], str]:
    """Return the codings to decode, in the order in which they were applied, and a remark if one is unknown.

    ``values`` are the values of Content-Encoding. An unknown coding counts as identity, as it does in browsers: most
    are a charset, or a word such as ``none``.
    """
    names = [name.strip(" \t").lower() for value in values for name in value.split(",")]
    known = [name for name in names if name in DECODERS]
    unknown = next((name for name in names if name and name != "identity" and name not in DECODERS), None)
    if unknown is None:
        return known, ""
    return known, f"the content coding {unknown[:_SHOWN_CHARACTERS]!r} is unknown: the body is kept as it came"


def decode(raw: Iterable[bytes], codings: Sequence[str], limit: int) -> Iterator[bytes]:
    """Yield the decoded body in pieces of bounded size; a step without output yields ``b""``.

    ``codings`` come from ``read_codings``. ``limit`` is the largest size of the decoded body in bytes. Raises TooLarge
    and DecodingFailed.
    """
    if len(codings) > MAX_CODINGS:
        raise decoding_failed(f"the body has {len(codings)} content codings; at most {MAX_CODINGS} are decoded")
    pieces = raw
    for coding in reversed(codings):
        packed = _at_most(packed_limit(limit), pieces, limit)
        pieces = decode_layer(coding, packed, _FREE_MEMBERS + limit // _MEMBER_BYTES)
    yield from _at_most(limit, pieces, limit)


def packed_limit(limit: int) -> int:
    """Return the largest encoded size in bytes of a body of at most ``limit`` bytes.

    Compression makes incompressible data a little larger.
    """
    return limit + limit // 8 + STEP


def _at_most(most: int, pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise too_large(limit)
        yield piece


def refuse_declared_length(content_length: str, limit: int) -> None:
    """Raise TooLarge where the Content-Length of a body without coding is over the limit, before it is read."""
    text = content_length.strip()
    if text.isascii() and text.isdigit() and int(text[:20]) > limit:
        raise too_large(limit)


def too_large(limit: int) -> TooLarge:
    """Return the error for a body over ``limit`` bytes."""
    return TooLarge(f"the body is larger than {limit} bytes, decoded (--max-body)", answered=True)
