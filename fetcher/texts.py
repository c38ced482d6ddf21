"""Text from elsewhere, made fit for every database and for UTF-8."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any

COMMANDS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Characters, as a class of a pattern: controls (C0, DEL, C1), line separators, and those that turn text around (bidi).

A terminal obeys some, and a log or a table shows others as something that was not written."""
_COMMAND = re.compile(f"[{COMMANDS}]")
_COMMAND_IN_UTF8 = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"  # but for C0
)
_COMMAND_BEGINS = (b"\x7f", b"\xc2", b"\xd8\x9c", b"\xe2\x80", b"\xe2\x81")


def check_label(text: str, most: int = 200) -> str:
    """Return a name that a person gives. Raises ValueError for one that is too long, or not one line of plain text."""
    if len(text) > most:
        raise ValueError(f"must be at most {most} characters")
    if _COMMAND.search(text):
        raise ValueError("has a line break, a control character or one that reverses text")
    return text


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``; did you mean X?`` with the most similar known word, nothing where none is similar.

    ``prefix``, with which all of them begin, makes no word similar to another.
    """
    names = [name.removeprefix(prefix) for name in known]
    close = difflib.get_close_matches(word[:100].removeprefix(prefix), names, n=1, cutoff=0.7)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def clean_text(text: str) -> str:
    """Return a text that can be stored and sent anywhere.

    PostgreSQL's text cannot hold NUL, which a server may send; no UTF-8 can hold half a surrogate pair, which Python
    makes of a file name or an argument that is not UTF-8.
    """
    if text.isascii() and "\x00" not in text:  # nearly every text; the rest costs five times as much
        return text
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def escape_json(content: bytes) -> bytes:
    """Escape what a terminal would obey in JSON (DEL, C1 and bidi controls), as C0 controls always are in it.

    The text read back is the same (RFC 8259, section 7). Outside of strings JSON has none of these.
    """
    if content.isascii():
        if b"\x7f" not in content:
            return content
    elif not any(begin[:1] in content and begin in content for begin in _COMMAND_BEGINS):
        return content  # one byte is looked for a hundred times as fast as the pattern, two ten times
    return _COMMAND_IN_UTF8.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), content)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def clean_json(value: Any) -> Any:
    """Return a JSON value that can be stored and sent anywhere.

    Its texts as ``clean_text``; NaN, infinities and what is no JSON at all as null.
    """
    match value:
        case None | bool() | int():
            return value
        case str():
            return clean_text(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [clean_json(item) for item in value]
        case dict():
            return {clean_json(key): clean_json(item) for key, item in value.items()}
        case _:
            return None
