"""Whether lines are rows of a table: a URL may have a comma itself, so the first lines together have to show it."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from fetcher.sources.entry import EDGES

DELIMITERS = ",;\t|"

_ROWS = 50
"""Lines looked at."""
_URL = re.compile(r"https?://", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_][\w'-]*")
# A line that could be a URL with a comma or a URL and a label: one comma, behind it a name or a number.
_COULD_BE_ROW = re.compile(r"https?://[^\s,;|?]+,([\w-]+)", re.IGNORECASE)


def is_table(head: bytes) -> bool:
    """Return whether what begins so can only be a table, with or without a header row that we know."""
    lines = head.decode(errors="replace").split("\n")
    stripped = [line.strip(EDGES.replace("\t", "")) for line in lines]
    rows = [line for line in stripped if line and not line.startswith(("#", "sep="))][:_ROWS]
    return len(rows) >= 2 and any(_has_columns(rows, delimiter) for delimiter in DELIMITERS)


def could_be_row(text: str) -> bool:
    """Return whether a line that is read as one URL could as well be a URL and its label."""
    return "," in text and _COULD_BE_ROW.fullmatch(text) is not None


def _has_columns(lines: Sequence[str], delimiter: str) -> bool:
    if any(delimiter not in line for line in lines):
        return False
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return False
    if any(len(row) != len(rows[0]) for row in rows):
        return False
    has_header = not any(_URL.search(cell) for cell in rows[0])
    return all(_is_row(row, delimiter, is_told=has_header) for row in rows[has_header:])


def _is_row(row: Sequence[str], delimiter: str, *, is_told: bool) -> bool:
    """Return whether the cells are a URL and what no URL would end with; ``is_told`` says that a header row stands."""
    cells = [cell.strip(EDGES) for cell in row]
    if not any(_URL.match(cell) for cell in cells):
        return False
    if is_told or delimiter == "\t" or not _URL.match(cells[0]):
        return True
    return all(_is_label(cell, in_query="?" in cells[0]) for cell in cells[1:])


def _is_label(cell: str, *, in_query: bool) -> bool:
    if not cell or _URL.match(cell) or any(char.isspace() for char in cell):
        return True
    return not in_query and _WORD.fullmatch(cell) is not None
