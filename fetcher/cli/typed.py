"""URLs as a person types them: without a scheme they mean https. Lists are read as they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from django.core.management.base import CommandError

from fetcher.cli.options import USAGE
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import has_no_scheme, parse_url
from fetcher.shown import shown_url

_NAMED = 5
"""URLs that the note names."""
_FILES = frozenset({".csv", ".gz", ".htm", ".html", ".json", ".jsonl", ".ndjson", ".opml", ".tsv", ".txt", ".xml"})
"""Endings of lists: a file that is not there is no host."""


def completed(text: str) -> str:
    """Return a URL that was typed, with ``https://`` where it begins with a host; anything else as it is."""
    if not has_no_scheme(text) or Path(text).suffix.lower() in _FILES:
        return text
    url = f"https://{text.strip()}"
    try:
        parse_url(url)
    except InvalidUrl:
        return text
    return url


def completed_all(texts: Sequence[str], note: Callable[[str], object]) -> list[str]:
    """Return ``completed`` of each, and note once which were changed. Raises CommandError (usage) for a file's name."""
    urls = list(map(completed, texts))
    changed = [(text, url) for text, url in zip(texts, urls, strict=True) if text != url]
    for text, url in changed:
        if _is_file(text):
            raise CommandError(
                f"{text!a} is a file: read it with --file {text}, or write {url} to fetch that URL", returncode=USAGE
            )
    if changed:
        shown = ", ".join(shown_url(url) for _, url in changed[:_NAMED])
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        note(f"no scheme was given, https is used: {shown}{more}")
    return urls


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
