"""Durations as people write them. Every option, setting and API field that is a duration is read here."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_UNITS = {
    "ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86_400),
    "w": Decimal(604_800),
}  # fmt: skip
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|w)", re.ASCII | re.IGNORECASE)
_MOST_CHARACTERS = 100


def read_duration(
    text: str, kind: str = "a duration such as 500ms, 30s, 5m or 1h", *, needs_unit: bool = False
) -> float:
    """Return the seconds of ``30``, ``0.5``, ``500ms``, ``5m``, ``1h30m`` or ``2d``.

    A number without a unit is seconds, and is refused where ``needs_unit``: ``--older-than 30`` must not remove what is
    half a minute old. ``kind`` says in the error what would be right. Raises ValueError.
    """
    try:
        seconds = math.nan if needs_unit else float(text)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        return seconds
    total, place, parts = Decimal(0), 0, text.strip()
    while len(parts) <= _MOST_CHARACTERS and (part := _PART.match(parts, place)):
        total, place = total + Decimal(part[1]) * _UNITS[part[2].lower()], part.end()
    if not place or place < len(parts):
        raise ValueError(f"must be {kind}, not {text[:_MOST_CHARACTERS]!r}")
    return float(total)


def write_duration(seconds: float) -> str:
    """Return seconds so that ``read_duration`` reads them: ``0.5s``, ``600s``."""
    return f"{seconds:g}s"
