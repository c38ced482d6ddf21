"""Lists as tables: what names a row is never cut, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fetcher.cli.text import printable

_GAP = 2
_NAME_ROOM = 30
"""Characters of a name for which other columns give way; a longer name goes on in the next line."""
_NOTHING = frozenset({"", "0"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column. Of those that do not fit, the one with the highest ``gives_way`` is left out first; 0: never.

    ``folds`` marks a name: it is wrapped where it does not fit.
    """

    name: str
    gives_way: int = 0
    right: bool = False
    folds: bool = False


class Listing:
    """Rows of text, as wide as the terminal allows. Columns are left out as a whole, and named below the table.

    Columns in which every row says 0 or nothing are left out before all others. A plain string is data and is shown as
    it is, without what could command a terminal; a Text is ours.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
        self._columns = columns
        self._rows = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
        self._widths = [
            max(len(column.name), *(row[place].cell_len for row in self._rows)) if self._rows else len(column.name)
            for place, column in enumerate(columns)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render what fits."""
        shown = self._fitting(options.max_width)
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for column in (self._columns[place] for place in shown):
            table.add_column(
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                overflow="fold",
            )
        table.add_row(*(Text(self._columns[place].name, "bold") for place in shown))
        for row in self._rows:
            table.add_row(*(row[place] for place in shown))
        yield table
        left_out = [column.name for place, column in enumerate(self._columns) if place not in shown]
        if names := ", ".join(filter(None, left_out)):
            yield Text(f"The terminal is too narrow for: {names}", "dim")

    def _fitting(self, width: int) -> list[int]:
        """Return the columns that are shown, by place."""
        shown = list(range(len(self._columns)))
        for place in sorted(shown, key=self._order):
            if not self._columns[place].gives_way or self._needed(shown) <= width:
                break
            shown.remove(place)
        return shown

    def _order(self, place: int) -> tuple[bool, bool, int]:
        column = self._columns[place]
        says_something = any(row[place].plain not in _NOTHING for row in self._rows)
        return not column.gives_way, says_something, -column.gives_way

    def _needed(self, shown: Sequence[int]) -> int:
        widths = (
            min(self._widths[place], _NAME_ROOM) if self._columns[place].folds else self._widths[place]
            for place in shown
        )
        return sum(widths) + _GAP * (len(shown) - 1)
