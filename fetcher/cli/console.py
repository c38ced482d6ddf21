"""The one way to rich: text is shown as it is, whatever it looks like."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console


def console_for(stream: TextIO, **options: Any) -> Console:
    """Return a console that takes no text for markup, an emoji's name or something to highlight.

    To rich ``[fd00::1]`` is a style and ``:cat:`` a picture; to Trawl they are parts of what a list or a server says.
    ``options`` are Console's.
    """
    return Console(file=stream, markup=False, emoji=False, highlight=False, **options)
