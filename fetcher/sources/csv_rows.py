"""CSV (RFC 4180) with a header row that has a column ``url``.

``method``, ``headers`` (a JSON object), ``body``, ``label`` and ``retry`` are read where there are such columns, others
are ignored. Cells that a row lacks at its end are empty. The delimiter is a comma, semicolon, tab or bar: the one that
finds these columns in the header row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fetcher.sources.entry import EDGES, Entry, SourceError, redacted, rejection
from fetcher.sources.fields import MAX_RECORD, NAMES, FieldError, Fields, check_result_method, entry_for_fields
from fetcher.sources.jsonl import read_headers
from fetcher.sources.stream import Stream
from fetcher.sources.tables import DELIMITERS

_OF_RESULTS = ("final_url", "error_kind", "body_sha256")
"""Columns that a table of ours has, as ``export_run`` writes it."""
_RETRY = {"": None, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_REASONS = {
    "field larger": "a field is longer than CSV allows here (131072 characters); write this one as JSON lines",
    "new-line": "has a carriage return in the middle; lines end with LF or CRLF",
    "unexpected end": "a quoted field has no end",
}


def read_csv(stream: Stream) -> Iterator[Entry]:
    """Yield the entries of the rows.

    Raises SourceError where no column is called ``url``, and where a quoted field does not end: what follows cannot be
    told from rows any more, and is not guessed at.
    """
    lines = _Lines(stream)
    delimiter, names = _header(lines)
    columns = _Columns(
        {name: names.index(name) for name in NAMES if name in names},
        len(names),
        are_of_results=all(name in names for name in _OF_RESULTS),
    )
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, _TooLongError) as exc:
            lines.end_row()
            yield Entry(stream.name, lines.first, reason=_reason(exc))
            continue
        if any(row):  # a spreadsheet writes ,,, for a row whose cells were emptied
            yield _entry(stream, lines.first, row, columns)


def find_columns(line: str) -> tuple[str, list[str]]:
    """Return the delimiter that finds most of our columns in a header row, and all its columns in lower case."""
    best: tuple[str, list[str]] = (",", [])
    for delimiter in DELIMITERS:
        try:
            row = next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        columns = [name.strip(EDGES).lower() for name in row]
        if _rank(columns) > _rank(best[1]):
            best = (delimiter, columns)
    return best


def _rank(columns: Sequence[str]) -> tuple[bool, int, int]:
    return "url" in columns, sum(name in columns for name in NAMES), len(columns)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where our columns stand, how many there are in all, and whether they are those of an export of results."""

    places: dict[str, int]
    width: int
    are_of_results: bool


class _TooLongError(Exception):
    """A row is longer than MAX_RECORD bytes."""


class _Lines:
    """A stream's lines as text for the csv module; knows where the row began and whether a quote is open.

    Quotation marks come in pairs in a row that is right, so their number tells where a broken one ends. Invalid UTF-8
    comes through as surrogates: it matters only in a column that is used.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.first = 0
        self._lines = stream.lines(MAX_RECORD)
        self._quotes = 0
        self._size = 0

    def begin_row(self) -> None:
        """Take the next line for the beginning of a row."""
        self.first = self.stream.line + 1
        self._quotes = self._size = 0

    def end_row(self) -> None:
        """Pass over what is left of a broken row. Raises SourceError where no end can be found."""
        try:
            while self._quotes % 2:
                next(self)
        except (StopIteration, _TooLongError):
            raise self.stream.error(
                f"reading stopped in the row that begins in line {self.first}: a quoted field does not end "
                f"within {MAX_RECORD} bytes; is a quotation mark missing, or one too many?"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw, whole = next(self._lines)
        self._quotes += raw.count(b'"') + (0 if whole else self.stream.quotes_passed)
        self._size += len(raw)
        if not whole or self._size > MAX_RECORD:
            raise _TooLongError
        return raw.decode(errors="surrogateescape")


def _header(lines: _Lines) -> tuple[str, list[str]]:
    stream = lines.stream
    try:
        line = next((line for line in lines if line.strip() and not is_preface(line)), "")
    except _TooLongError:
        raise stream.error(f"its header row is longer than {MAX_RECORD} bytes") from None
    delimiter, columns = find_columns(line)
    _check_columns(stream, line, columns)
    return delimiter, columns


def is_preface(line: str) -> bool:
    """Whether this line stands before the header row: Excel's ``sep=;``, or the ``#TYPE ...`` of PowerShell 5."""
    return line.startswith("#TYPE ") or (line.lower().startswith("sep=") and len(line.strip("\r\n")) == len("sep=;"))


def _check_columns(stream: Stream, line: str, columns: Sequence[str]) -> None:
    if not line:
        raise stream.error("is empty; its first row must name the columns, one of them url")
    if "\r" in line.rstrip("\r\n"):
        raise stream.error("has a carriage return inside its header row; lines must end with LF or CRLF")
    if "url" not in columns:
        raise _no_url(stream, line, columns)
    for name in NAMES:
        if columns.count(name) > 1:
            raise stream.error(f"has {columns.count(name)} columns called {name}; keep one")


def _no_url(stream: Stream, line: str, columns: Sequence[str]) -> SourceError:
    if "://" in line:
        return stream.error(
            "has no header row; its first row must name the columns, one of them url (--format lines reads each line "
            "as a URL)"
        )
    shown = ", ".join(redacted(name[:40]) or "(no name)" for name in columns[:20]) or "none that can be read"
    more = ", …" if len(columns) > 20 else ""
    return stream.error(f"has no column url (found: {shown}{more}); call the column with the URLs url")


def _entry(stream: Stream, line: int, row: Sequence[str], columns: _Columns) -> Entry:
    width = columns.width
    if len(row) < width and columns.places["url"] < len(row):
        stream.note(line, "the row has fewer cells than the header row; missing cells are read as empty")
        row = [*row, *[""] * (width - len(row))]
    elif len(row) < width or any(row[width:]):
        url = "".join(row[columns.places["url"] :][:1])
        reason = f"columns: {len(row)}, where the header row has {width}; a field with the delimiter in it needs quotes"
        return rejection(stream.name, line, url, reason)
    cells = {name: row[place] for name, place in columns.places.items()}
    try:
        fields = _fields(stream, line, cells)
        if columns.are_of_results:
            check_result_method(fields.method or "GET")
    except FieldError as exc:
        return rejection(stream.name, line, cells["url"], str(exc))
    return entry_for_fields(stream.name, line, fields)


def _fields(stream: Stream, line: int, cells: dict[str, str]) -> Fields:
    for name, cell in cells.items():
        if not cell.isascii() and any("\udc80" <= char <= "\udcff" for char in cell):
            stream.note(line, "the file is not UTF-8; save it again as UTF-8 (in Excel: CSV UTF-8)")
            raise FieldError(f"{name}: is not valid UTF-8")
    headers = cells.get("headers", "").strip()
    retry = cells.get("retry", "").strip().lower()
    if retry not in _RETRY:
        raise FieldError("retry: must be true or false, or empty")
    return Fields(
        stream.trim(cells["url"], line),
        cells.get("method", "").strip() or None,
        read_headers(headers) if headers else None,
        cells.get("body") or None,
        cells.get("label", "").strip() or None,
        _RETRY[retry],
    )


def _reason(exc: Exception) -> str:
    if isinstance(exc, _TooLongError):
        return f"longer than {MAX_RECORD} bytes"
    for beginning, reason in _REASONS.items():
        if str(exc).startswith(beginning):
            return reason
    return "a quotation mark stands inside a quoted field; double it"
