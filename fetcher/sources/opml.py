"""OPML 2.0, the format in which feed readers hand over their lists: the ``xmlUrl`` of each ``outline``.

The label is its ``title``, or its ``text``. An outline without ``xmlUrl`` is a folder and passed over.
"""

from __future__ import annotations

from fetcher.sources.entry import Entry, trimmed
from fetcher.sources.fields import MAX_LABEL
from fetcher.sources.xml_reader import Vocabulary, local


class Opml(Vocabulary):
    """An ``opml`` document."""

    def start(self, path: list[str], attributes: dict[str, str], line: int) -> None:  # noqa: D102
        if local(path[-1]) != "outline":
            return
        found = {name.lower(): value for name, value in attributes.items()}  # xmlurl and xmlURL are seen as well
        url = found.get("xmlurl")
        if url is None:
            return
        if not trimmed(url):
            self.found.append(Entry(self.stream.name, line, reason="xmlUrl is empty"))
            return
        label = _label(found.get("title", "")) or _label(found.get("text", ""))
        self.take_url(line, url, label)


def _label(text: str) -> str:
    """Put a title on one line and cut it: it is for people, and no reason to refuse a feed."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * MAX_LABEL]).split())
    return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"


ROOTS: dict[str, type[Vocabulary]] = {"opml": Opml}
