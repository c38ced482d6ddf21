"""What a source yields."""

from __future__ import annotations

import re

import msgspec

from fetcher.engine.errors import InvalidUrl
from fetcher.engine.types import Target
from fetcher.engine.urls import parse_url
from fetcher.shown import shown_text, shown_url

_USERINFO = re.compile(r"^((?:https?:|[a-z][a-z0-9+.-]*:(?=//))?/*).*@", re.DOTALL | re.IGNORECASE)
_SHOWN = 200
EDGES = " \t\r\n\xa0\u1680\u3000\ufeff" + "".join(
    map(chr, (*range(0x2000, 0x2010), *range(0x2028, 0x2030), *range(0x205F, 0x2070)))
)
"""White space and characters without a width (U+200B, U+FEFF, …): programs leave them around URLs, URLs have none."""


class SourceError(Exception):
    """A source as a whole cannot be read; the text names it and says why."""


class Entry(msgspec.Struct, frozen=True):
    """One line of input: a target, or the reason why it is none.

    ``line`` counts from 1. ``value`` is the rejected text, shortened and without any user name or password.
    ``own_method`` says that the input names the target's method, which defaults then leave alone.
    """

    source: str
    line: int
    target: Target | None = None
    value: str = ""
    reason: str = ""
    own_method: bool = False

    @property
    def where(self) -> str:
        """``urls.txt:12``."""
        return f"{self.source}:{self.line}"


def trimmed(text: str) -> str:
    """Return the text without white space and invisible characters around it."""
    return text.strip(" \t\r\n") if text.isascii() else text.strip(EDGES)


def entry_for_url(source: str, line: int, text: str) -> Entry:
    """Return the entry for one URL as written: a target to GET, or its rejection."""
    try:
        url = parse_url(trimmed(text))
    except InvalidUrl as exc:
        return rejection(source, line, text, str(exc))
    return Entry(source, line, Target(url.href, url.host))


def rejection(source: str, line: int, text: str, reason: str) -> Entry:
    """Return the entry for input that is no target; secrets are masked in text and reason."""
    return Entry(source, line, value=redacted(text), reason=shown_text(reason))


def redacted(text: str) -> str:
    """Return rejected input as it may be shown and stored: printable, short, without secrets.

    What was rejected may have a user name and password anywhere, and a password may have any character: all before the
    last @ goes. So do the values of secret parameters.
    """
    text = shown_url(_USERINFO.sub(r"\1***@", text))
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
