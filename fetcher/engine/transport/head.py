"""The head of an answer, from its lines as libcurl hands them out.

What libcurl accepts is accepted here, with three exceptions: a status that is not three digits, Content-Length fields
that differ, and white space before the colon of a field that says where the body ends. Two programs read those
differently, and that is how one answer is smuggled into another (RFC 9112, section 11.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from fetcher.engine.types import Headers

ENDLESS_BYTES = 2**63
"""Stands for every Content-Length from here on: more than libcurl counts, and than any answer has."""

_SHOWN_BYTES = 100
_KNOWN_LINES = 2048
_KNOWN_LINE_BYTES = 160
"""Longer lines are read anew each time. The server chooses them, and would fill the memory with what is kept."""
_COUNTED_DIGITS = 18

# Three digits and no fourth (RFC 9112, section 4). Some servers leave out the space before the reason.
_STATUS_LINE = re.compile(rb"(HTTP/[0-9](?:\.[0-9])?)[ \t]+([1-9][0-9]{2})(?![0-9])[ \t]*([^\r\n]*)\s*", re.IGNORECASE)
_NAMELESS = b":"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_SPECIAL = _FRAMING | {_NAMELESS}


class Head(NamedTuple):
    """A complete head: the status line's parts, and the fields as they came; ``fields`` are the same as text.

    ``shown`` is the version as text, ``length`` what Content-Length says, in bytes. ``own_length`` is the same where
    libcurl does not go by it: it reads such a body until the connection ends.
    """

    version: bytes
    shown: str
    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    fields: Headers
    length: int | None
    own_length: int | None


_Status = tuple[bytes, str, int, bytes]
_Field = tuple[tuple[bytes, bytes], tuple[str, str], bytes]
"""Name and value, the same as text, and what is special: that it says where the body ends, or has no name."""

# Most lines of most answers are the same again and again, but for Date and the like.
_known_status: dict[bytes, _Status] = {}
_known_fields: dict[bytes, _Field] = {}


def parse_head(lines: Sequence[bytes]) -> Head:
    """Read the lines of one head, the empty one at its end left out. Raises httpx.RemoteProtocolError.

    White space before a colon is dropped (RFC 9112, section 5.1), and so is a line without a name. Two Content-Lengths
    that differ are refused (section 6.3).
    """
    try:
        return _parse(lines[0], lines[1:])
    except httpx.RemoteProtocolError:  # a line that goes on with the one before is none of its own
        unfolded = _unfolded(lines[1:])
        if len(unfolded) == len(lines) - 1:
            raise
        return _parse(lines[0], unfolded)


def _parse(first: bytes, lines: Sequence[bytes]) -> Head:
    version, shown, status, reason = _known_status.get(first) or _read_status(first)
    headers, fields, length, coding = [], [], None, None
    known = _known_fields.get
    for line in lines:
        raw, text, special = known(line) or _read_field(line)
        if special:
            if special == _NAMELESS:
                continue
            if special == b"transfer-encoding":
                coding = (coding or b"") + raw[1].lower()
            elif length is not None and raw[1] != length:
                raise _invalid("it has Content-Length headers that differ")
            else:
                length = raw[1]
        headers.append(raw)
        fields.append(text)
    size = None if length is None else _size(length)
    own = None
    # libcurl goes by the length but beside a Transfer-Encoding, or where it cannot count so far.
    if size is not None and (size >= ENDLESS_BYTES or (coding is not None and b"chunked" not in coding)):
        own = size
    return Head(version, shown, status, reason, tuple(headers), tuple(fields), size, own)


def _read_status(line: bytes) -> _Status:
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise _invalid(f"{_shown(line)} is not a status line")
    version = found[1].upper()
    status = version, version.decode("latin-1"), int(found[2]), found[3].rstrip()
    if len(line) <= _KNOWN_LINE_BYTES:
        _remember(_known_status, line, status)
    return status


def _read_field(line: bytes) -> _Field:
    name, colon, value = line.partition(b":")
    bare = name.strip()
    if not colon or (bare != name and line[0] in b" \t"):
        raise _invalid(f"{_shown(line)} is not a header line")
    low = bare.lower() or _NAMELESS
    if bare != name and low in _FRAMING:
        raise _invalid(f"{_shown(line)} has white space before its colon")
    special = low if low in _SPECIAL else b""
    value = value.strip(b" \t\r\n")
    field = (bare, value), (bare.decode("latin-1"), value.decode("latin-1")), special
    if len(line) <= _KNOWN_LINE_BYTES:
        _remember(_known_fields, line, field)
    return field


def _remember(known: dict[bytes, Any], line: bytes, value: object) -> None:
    if len(known) >= _KNOWN_LINES:
        known.clear()
    known[line] = value


def _size(length: bytes) -> int | None:
    digits = length.lstrip(b"0") or length[-1:]
    if not digits.isdigit():
        return None
    return int(digits) if len(digits) <= _COUNTED_DIGITS else ENDLESS_BYTES


def _unfolded(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return field lines, what is left of obsolete line foldings joined.

    A line that is folded before there is a field is dropped (RFC 9112, sections 2.2 and 5.2).
    """
    found: list[list[bytes]] = []
    for line in lines:
        if line[0] not in b" \t":
            found.append([line])
        elif found:
            found[-1].append(line)
    return [b" ".join([part.strip() for part in parts]) for parts in found]


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN_BYTES].strip().decode("latin-1"))


def _invalid(text: str) -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError(f"the answer is not valid HTTP/1.1: {text}")
