"""Sitemaps (sitemaps.org, protocol 0.9): the ``loc`` of each ``url``.

An index of sitemaps is refused with a word on what to pass instead.
"""

from __future__ import annotations

from fetcher.sources.entry import Entry, SourceError, redacted, rejection, trimmed
from fetcher.sources.stream import Stream
from fetcher.sources.xml_reader import Vocabulary, local

MAX_TEXT = 64 * 2**10
"""Characters of one ``loc``; the rest is not kept."""
_SHOWN = 3


class _Locations(Vocabulary):
    """Collects the text of root/entry/loc; elements of other vocabularies (images, videos) lie deeper or differ."""

    entry_name = ""

    def __init__(self, stream: Stream, found: list[Entry]) -> None:
        super().__init__(stream, found)
        self._pieces: list[str] | None = None
        self._size = 0
        self._line = 0
        self._has_children = False
        self._located = False

    def start(self, path: list[str], attributes: dict[str, str], line: int) -> None:
        if self._pieces is not None:
            self._has_children = True
        elif len(path) == 2 and local(path[1]) == self.entry_name:
            self._located = False
            self._line = line
        elif self._is_loc(path):
            self._pieces, self._size, self._has_children = [], 0, False
            self._line = line

    def _is_loc(self, path: list[str]) -> bool:
        if len(path) != 3 or local(path[2]) != "loc" or local(path[1]) != self.entry_name:
            return False
        return path[2].rpartition(":")[0] == path[1].rpartition(":")[0]

    def text(self, data: str) -> None:
        if self._pieces is not None:
            self._size += len(data)
            if self._size <= MAX_TEXT:
                self._pieces.append(data)

    def end(self, path: list[str]) -> None:
        if self._pieces is not None and len(path) == 3:
            text = "".join(self._pieces)
            self._pieces = None
            self._located = True
            self.location(self._line, text)
        elif len(path) == 2 and local(path[1]) == self.entry_name and not self._located:
            self.rejected(self._line, "", f"<{self.entry_name}> has no <loc>")

    def location(self, line: int, text: str) -> None:
        """Take the text of one ``loc``."""
        if self._size > MAX_TEXT:
            self.rejected(line, text, f"longer than {MAX_TEXT} characters")
        elif self._has_children:
            self.rejected(line, text, "<loc> has elements inside; it must be a URL alone")
        elif not trimmed(text):
            self.rejected(line, "", "<loc> is empty")
        else:
            self.take_url(line, text)

    def rejected(self, line: int, text: str, reason: str) -> None:
        """Take what is no URL."""
        self.found.append(rejection(self.stream.name, line, text, reason))


class Sitemap(_Locations):
    """A ``urlset``."""

    entry_name = "url"


class SitemapIndex(_Locations):
    """A ``sitemapindex``: its sitemaps are not fetched here, and the error lists the first of them."""

    entry_name = "sitemap"

    def __init__(self, stream: Stream, found: list[Entry]) -> None:
        super().__init__(stream, found)
        self._sitemaps: list[str] = []

    def location(self, line: int, text: str) -> None:
        """Note one sitemap of the index."""
        if text := trimmed(text):
            self._sitemaps.append(redacted(text))
        if len(self._sitemaps) > _SHOWN:
            raise self._error()

    def rejected(self, line: int, text: str, reason: str) -> None:
        """Pass over what is wrong with an entry of the index: none is read."""

    def finish(self) -> None:  # noqa: D102
        raise self._error()

    def _error(self) -> SourceError:
        listed = ", ".join(self._sitemaps[:_SHOWN]) or "none"
        more = ", …" if len(self._sitemaps) > _SHOWN else ""
        return self.stream.error(
            f"is an index of sitemaps, not a list of pages; download its sitemaps and pass those: {listed}{more}"
        )


ROOTS: dict[str, type[Vocabulary]] = {"urlset": Sitemap, "sitemapindex": SitemapIndex}
