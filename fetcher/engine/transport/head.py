"""The head of an answer, from its lines as libcurl hands them out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import httpx

_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Head:
    """A complete head: the status line's parts, and the fields as they came."""

    version: bytes
    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None
    """What Content-Length says."""


@lru_cache(maxsize=1024)
def _field(line: bytes) -> tuple[bytes, bytes]:
    # Most lines of most answers are the same again and again, but for Date and the like.
    name, colon, value = line.partition(b":")
    if not colon or not name or name[-1:] in b" \t" or name.strip() != name:
        raise _invalid(line)
    return name, value.strip(b" \t\r\n")


def parse_head(lines: list[bytes]) -> Head:
    """Read the lines of one head, the empty one at its end left out. Raises httpx.RemoteProtocolError.

    Two Content-Lengths that differ are refused (RFC 9112, section 6.3): somebody reads them differently.
    """
    version, _, rest = lines[0].strip().partition(b" ")
    status, _, reason = rest.partition(b" ")
    if not version.startswith(b"HTTP/") or not status.isdigit():
        raise _invalid(lines[0])
    headers: list[tuple[bytes, bytes]] = []
    length: bytes | None = None
    for line in lines[1:]:
        if line[:1] in b" \t":  # an obsolete line folding (RFC 9112, section 5.2)
            if not headers:
                raise _invalid(line)
            headers[-1] = headers[-1][0], headers[-1][1] + b" " + line.strip()
            continue
        name, value = field = _field(line)
        headers.append(field)
        if len(name) == 14 and name.lower() == b"content-length":
            if length is not None and value != length:
                raise httpx.RemoteProtocolError("the answer is not valid HTTP/1.1: conflicting Content-Length headers")
            length = value
    declared = int(length) if length is not None and length.isdigit() and len(length) < 20 else None
    return Head(version, int(status), reason, tuple(headers), declared)


def _invalid(line: bytes) -> httpx.RemoteProtocolError:
    shown = line[:_LONGEST].strip().decode("latin-1")
    return httpx.RemoteProtocolError(f"the answer is not valid HTTP/1.1: {shown!r} is no header line")
