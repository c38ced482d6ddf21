"""XML read safely and as it comes: no document type with anything in it, no entities, bounded in every direction.

expat is told to fetch nothing, and here whatever could make it is refused as well: what a list of URLs needs is
elements, attributes and text. A text that an undeclared entity was dropped from would be another URL.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any
from xml.parsers import expat

from fetcher.sources.entry import Entry, SourceError, entry_for_url, redacted, rejection
from fetcher.sources.fields import Fields, entry_for_fields
from fetcher.sources.stream import Stream
from fetcher.sources.unpacking import BrokenError
from fetcher.sources.xml_text import REPLACEMENT, xml_pieces

MAX_DEPTH = 100
MAX_NAMES = 1000
"""Different names of elements and attributes: the parser keeps each."""
MAX_QUIET = 2**20
"""Bytes from one tag to the next; a single tag is no longer either."""

_TAIL = 200
"""Bytes looked at before a mistake, to say what it is."""
_AMPERSAND = re.compile(rb"&[^\s;&<>\"'=]*.?", re.DOTALL)


class Vocabulary(ABC):
    """What the elements of one kind of document mean. ``found`` takes the entries as they are found."""

    def __init__(self, stream: Stream, found: list[Entry]) -> None:
        self.stream = stream
        self.found = found

    @abstractmethod
    def start(self, path: list[str], attributes: dict[str, str], line: int) -> None:
        """Take the start of an element.

        ``path`` are the names from the root to it, prefixes included, in lower case: some programs write ``<OPML>``.
        """

    def take_url(self, line: int, text: str, label: str | None = None) -> None:
        """Add the entry for a URL."""
        text = self.stream.trim(text, line)
        if REPLACEMENT in text:
            entry = rejection(
                self.stream.name, line, text, "contains U+FFFD, in place of a character that was not read"
            )
        elif label is None:
            entry = entry_for_url(self.stream.name, line, text)
        else:
            entry = entry_for_fields(self.stream.name, line, Fields(text, label=label))
        self.found.append(entry)

    def text(self, data: str) -> None:  # noqa: B027  (most documents need not care)
        """Take a piece of text."""

    def end(self, path: list[str]) -> None:  # noqa: B027
        """Take the end of the innermost element of the path."""

    def finish(self) -> None:  # noqa: B027
        """Take the end of the document. May raise SourceError."""


def local(name: str) -> str:
    """``loc`` for ``sm:loc``."""
    return name.rpartition(":")[2]


def read_xml(stream: Stream, roots: Mapping[str, type[Vocabulary]]) -> Iterator[Entry]:
    """Yield the entries of a document whose root element is among ``roots``.

    Raises SourceError where it is not, and where reading cannot go on; entries before that place are yielded first.
    """
    reader = _Reader(stream, roots)
    error: SourceError | None = None
    pieces = xml_pieces(stream)
    piece: bytes | None = b""
    while error is None and piece is not None:
        try:
            piece = next(pieces, None)
            reader.feed(piece)
        except expat.ExpatError as exc:
            error = stream.error(f"line {exc.lineno}: is not well-formed XML: {reader.reason(exc)}")
        except BrokenError as exc:
            error = stream.error(f"reading stopped in line {reader.line}: {exc}")
        except OSError as exc:
            error = stream.error(f"reading stopped in line {reader.line}: {(exc.strerror or str(exc)).lower()}")
        except SourceError as exc:
            error = exc
        yield from reader.found
        reader.found.clear()
    if error is not None:
        raise error


class _Reader:
    def __init__(self, stream: Stream, roots: Mapping[str, type[Vocabulary]]) -> None:
        self.found: list[Entry] = []
        self._stream = stream
        self._roots = roots
        self._vocabulary: Vocabulary | None = None
        self._path: list[str] = []
        self._quiet = 0
        self._begin = 0
        self._piece = b""
        parser = expat.ParserCreate("utf-8", intern={})
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._entity
        parser.ExternalEntityRefHandler = self._entity
        self._parser = parser

    @property
    def line(self) -> int:
        return self._parser.CurrentLineNumber

    def feed(self, piece: bytes | None) -> None:
        """Read on; None is the end."""
        if piece is None:
            self._parser.Parse(b"", True)
            if self._vocabulary is not None:
                self._vocabulary.finish()
            return
        self._quiet += len(piece)
        before = self._piece[-_TAIL:]
        self._begin += len(self._piece) - len(before)
        self._piece = before + piece
        self._parser.Parse(piece, False)
        if self._quiet > MAX_QUIET:
            raise self._refused(f"more than {MAX_QUIET} bytes follow without a tag")
        if len(self._parser.intern) > MAX_NAMES:
            raise self._refused(f"has more than {MAX_NAMES} different names of elements and attributes")

    def reason(self, exc: expat.ExpatError) -> str:
        """Return what is wrong with the document."""
        reason = expat.ErrorString(exc.code) or "it cannot be read"
        if reason == expat.errors.XML_ERROR_NO_ELEMENTS:
            return "it ends too early"
        return reason + self._advice(reason)

    def _advice(self, reason: str) -> str:
        """Return what to mend, where the place of the mistake shows it."""
        end = self._parser.ErrorByteIndex - self._begin + 1
        text = self._piece[max(0, end - _TAIL) : end]
        if reason == expat.errors.XML_ERROR_BAD_CHAR_REF:
            return "; XML forbids control characters also as references, remove it"
        if reason == expat.errors.XML_ERROR_MISPLACED_XML_PI:
            return "; its <?xml line must be the first, and a file holds one document"
        if _AMPERSAND.fullmatch(text, max(0, text.rfind(b"&"))):
            return "; an & in a URL is written &amp;"
        return (
            "; a < in a text is written &lt;"
            if reason == expat.errors.XML_ERROR_INVALID_TOKEN and text.endswith(b"<")
            else ""
        )

    def _refused(self, reason: str) -> SourceError:
        return self._stream.error(f"line {self.line}: {reason}; reading stopped")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._quiet = 0
        self._path.append(name.lower())
        if len(self._path) > MAX_DEPTH:
            raise self._refused(f"elements are nested more than {MAX_DEPTH} deep")
        if self._vocabulary is None:
            self._vocabulary = self._chosen(name)
        self._vocabulary.start(self._path, attributes, self.line)

    def _chosen(self, root: str) -> Vocabulary:
        kind = self._roots.get(local(root).lower())
        if kind is None:
            wanted = " or ".join(f"<{name}>" for name in self._roots)
            raise self._stream.error(f"its root element is <{redacted(root[:60])}>, not {wanted}")
        return kind(self._stream, self.found)

    def _end(self, _: str) -> None:
        self._quiet = 0
        if self._vocabulary is not None:
            self._vocabulary.end(self._path)
        self._path.pop()

    def _text(self, data: str) -> None:
        if self._vocabulary is not None:
            self._vocabulary.text(data)

    def _doctype(self, _: str, system: str | None, public: str | None, has_subset: int) -> None:
        if system or public or has_subset:
            raise self._refused(
                "the document type declares something or is kept elsewhere, which is refused; remove it"
            )

    def _entity(self, *_: Any) -> Any:
        raise self._refused("entities of the document's own are refused; write their text instead")
