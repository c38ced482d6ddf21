"""The head of an answer, from its lines as libcurl hands them out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import httpx

from fetcher.engine.types import Headers

_SHOWN = 100
_KNOWN_LINES = 2048


class Head(NamedTuple):
    """A complete head: the status line's parts, and the fields as they came; ``fields`` are the same as text.

    ``shown`` is the version as text, ``length`` what Content-Length says, in bytes.
    """

    version: bytes
    shown: str
    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    fields: Headers
    length: int | None


def parse_head(lines: Sequence[bytes]) -> Head:
    """Read the lines of one head, the empty one at its end left out. Raises httpx.RemoteProtocolError.

    Two Content-Lengths that differ are refused (RFC 9112, section 6.3): somebody reads them differently.
    """
    try:
        return _parse(lines[0], lines[1:])
    except httpx.RemoteProtocolError:  # a line that goes on with the one before is none of its own
        unfolded = _unfolded(lines[1:])
        if len(unfolded) == len(lines) - 1:
            raise
        return _parse(lines[0], unfolded)


def _parse(first: bytes, lines: Sequence[bytes]) -> Head:
    version, shown, status, reason = _status(first)
    headers, fields, length = [], [], None
    for line in lines:
        raw, text, told = _field(line)
        headers.append(raw)
        fields.append(text)
        if told is not None:
            if length is not None and told != length:
                raise httpx.RemoteProtocolError(
                    "the answer is not valid HTTP/1.1: it has Content-Length headers that differ"
                )
            length = told
    size = int(length) if length is not None and length.isdigit() and len(length) < 20 else None
    return Head(version, shown, status, reason, tuple(headers), tuple(fields), size)


# Most lines of most answers are the same again and again, but for Date and the like.


@lru_cache(maxsize=_KNOWN_LINES)
def _status(line: bytes) -> tuple[bytes, str, int, bytes]:
    version, _, rest = line.strip().partition(b" ")
    status, _, reason = rest.partition(b" ")
    if not version.startswith(b"HTTP/") or not status.isdigit():
        raise _invalid(line)
    return version, version.decode("latin-1"), int(status), reason


@lru_cache(maxsize=_KNOWN_LINES)
def _field(line: bytes) -> tuple[tuple[bytes, bytes], tuple[str, str], bytes | None]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name.strip() != name:
        raise _invalid(line)
    value = value.strip(b" \t\r\n")
    length = value if name.lower() == b"content-length" else None
    return (name, value), (name.decode("latin-1"), value.decode("latin-1")), length


def _unfolded(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return field lines, what is left of obsolete line foldings (RFC 9112, section 5.2) joined."""
    found: list[bytes] = []
    for line in lines:
        if line[0] not in b" \t":
            found.append(line)
        elif not found:
            raise _invalid(line)
        else:
            found[-1] = found[-1].rstrip() + b" " + line.strip()
    return found


def _invalid(line: bytes) -> httpx.RemoteProtocolError:
    shown = line[:_SHOWN].strip().decode("latin-1")
    return httpx.RemoteProtocolError(f"the answer is not valid HTTP/1.1: {shown!r} is no header line")
