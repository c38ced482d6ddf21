"""Figures as people read them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def count(number: int, noun: str = "") -> str:
    """Return ``1,234 targets``; the noun is given in the singular."""
    return f"{number:,}" if not noun else f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Return a size in powers of two: ``512 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def duration(seconds: float) -> str:
    """Return ``350 ms``, ``4.2 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def printable(text: str) -> str:
    """Return one line of text without what could command a terminal: a server may have written it."""
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters; what was cut is marked."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def program() -> str:
    """Return how ``manage.py`` can be called from here: ``python manage.py``, or with the interpreter's path."""
    script = os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "manage.py" else "manage.py"
    found = shutil.which("python")
    if found and Path(found).absolute() == Path(sys.executable):
        return f"python {script}"
    near = os.path.relpath(sys.executable)
    return f"{sys.executable if near.startswith('..') else near} {script}"
