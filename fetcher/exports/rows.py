"""Results as lines: NDJSON, or CSV that a spreadsheet can open without running it."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from fetcher.models import Result
from fetcher.payloads import ResultItem, encode, encode_line, result_items

Format = Literal["ndjson", "csv"]
FORMATS: tuple[Format, ...] = ("ndjson", "csv")
PAGE = 500
"""Results in memory at once."""

_FORMULA = frozenset("=+-@")


def result_pages(run: int) -> Iterator[list[ResultItem]]:
    """Yield a run's results as lists show them, in the order of their ids."""
    after = 0
    while ids := Result.objects.page(run, after=after, limit=PAGE):
        yield result_items(ids)
        after = ids[-1]


def lines_of(shape: type[msgspec.Struct], chosen: Format) -> tuple[bytes, Callable[[Iterable[msgspec.Struct]], bytes]]:
    """Return what a file of such items begins with, and the function that writes items down.

    CSV (RFC 4180, UTF-8, lines end in CR LF) has the shape's fields as its columns, in their order.
    """
    if chosen == "ndjson":
        return b"", lambda items: b"".join(map(encode_line, items))
    names = shape.__struct_fields__
    return csv_lines([names]), lambda items: csv_lines([getattr(item, name) for name in names] for item in items)


def csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    """Write rows as CSV: null is an empty cell, true and false are words, objects and lists JSON."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def cell(value: Any) -> Any:
    """Return a value as it stands in a cell.

    A text that begins with ``= + - @`` would be run as a formula by spreadsheets, and by some also where it does so in
    full width or behind blanks. It gets an apostrophe in front, which they take for "this is text". Programs that read
    the file strip it.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return value
        case str():
            text = value.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        case _:
            text = encode(value).decode()
    return f"'{text}" if _may_be_formula(text) else text


def _may_be_formula(text: str) -> bool:
    if not text or text[0].isalnum():  # nearly every cell
        return False
    first = text.lstrip()[:1]
    # What cannot be printed is a tab, a line break, or a mark that is not seen and may be passed over.
    unseen = not text[0].isprintable() or not first.isprintable()
    return unseen or unicodedata.normalize("NFKC", first)[:1] in _FORMULA
