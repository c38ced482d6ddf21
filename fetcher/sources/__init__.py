"""Input formats: each is an iterable of entries that reads no further than it is asked."""

from fetcher.sources.entry import Entry, SourceError
from fetcher.sources.lines import open_arguments, open_lines

__all__ = ["Entry", "SourceError", "open_arguments", "open_lines"]
