"""Text is shown as it is, whatever it looks like to rich."""

from __future__ import annotations

import ast
import io

import pytest
from rich.table import Table

from fetcher.cli.console import console_for
from fetcher.cli.summary import print_parts
from tests.support.processes import ROOT


@pytest.mark.parametrize(
    "text", ["[fd00::1]:8080", "[::1]", "[red]x[/red]", "[/]", "[link=http://a]x", ":cat:", "\\[a]", "1.5"]
)
def test_text_that_looks_like_markup_is_shown_as_it_is(text: str) -> None:
    table = Table.grid()
    table.add_row(text)
    stream = io.StringIO()
    print_parts(stream, [table, text])
    assert stream.getvalue() == f"{text}\n\n{text}\n"
    terminal = io.StringIO()
    console_for(terminal, force_terminal=True, color_system="truecolor", width=200).print(text, table)
    assert terminal.getvalue().split() == text.split() * 2


def test_no_other_console_is_made() -> None:
    made = [
        path.relative_to(ROOT).as_posix()
        for folder in ("fetcher", "jobs")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Console"
    ]
    assert made == ["fetcher/cli/console.py"]
