"""Results as lines: NDJSON, or CSV that a spreadsheet can open without running it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from fetcher.models import Result
from fetcher.payloads import ResultItem, encode, encode_line, result_items
from fetcher.texts import COMMANDS

Format = Literal["ndjson", "csv"]
FORMATS: tuple[Format, ...] = ("ndjson", "csv")
PAGE = 500
"""Results in memory at once."""

_FORMULA = re.compile(
    "[\\s'\"\u00ad\u200b-\u200f\u2060\ufeff]*"  # blanks, what is not seen, and quotes, which spreadsheets drop
    "[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212]"  # also full-width, small, and the minus sign
)
_COMMANDS = re.compile(f"(?![\t\n\r])[{COMMANDS}]")


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

    A text that begins with ``= + - @``, a tab or a carriage return would be run as a formula by spreadsheets, some of
    which drop blanks and quotes before it, or take full-width forms for the same. It gets an apostrophe in front. A
    program takes that off from a cell whose rest begins so: no other cell looks like it.

    CSV has no escapes: a control or bidi character becomes U+FFFD. NDJSON has the text as it was.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return value
        case str():
            text = _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", value)
        case _:
            text = encode(value).decode()
    return f"'{text}" if _FORMULA.match(text) else text
