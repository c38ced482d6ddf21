"""Input formats: each is an iterable of entries that reads no further than it is asked."""

from fetcher.sources.defaults import with_defaults
from fetcher.sources.detect import FORMATS, open_lines, open_source
from fetcher.sources.entry import Entry, SourceError
from fetcher.sources.inputs import Input, Inputs
from fetcher.sources.lines import open_arguments

__all__ = [
    "FORMATS",
    "Entry",
    "Input",
    "Inputs",
    "SourceError",
    "open_arguments",
    "open_lines",
    "open_source",
    "with_defaults",
]
