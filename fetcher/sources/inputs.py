"""What a run reads, in a form that is kept with it, so that reading can go on where a process ended.

An input is read from its beginning again, and the entries that are accounted for are passed over: that holds for every
format, packed or not. What is no regular file, or is no longer the file that it was, is not read on.
"""

from __future__ import annotations

import contextlib
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from fetcher.engine.defects import report_defect
from fetcher.sources.detect import open_source
from fetcher.sources.entry import Entry, SourceError
from fetcher.sources.lines import open_arguments


class Input(msgspec.Struct, omit_defaults=True):
    """One input: ``kind`` is arguments (then ``urls`` are they), file or stdin; ``name`` is what messages call it.

    A file's ``path`` is absolute; ``size`` (bytes) and ``modified`` (nanoseconds since the epoch) tell whether it is
    still the same, and are None for what is no regular file, such as a named pipe. ``in_bytes`` says that each
    character of the texts stands for one byte.
    """

    kind: str
    name: str
    format: str = "auto"
    urls: list[str] = []
    path: str = ""
    size: int | None = None
    modified: int | None = None
    in_bytes: bool = False

    @classmethod
    def arguments(cls, urls: Sequence[str]) -> Input:
        """Return the input that is URLs given as arguments."""
        return cls("arguments", "arguments", urls=list(urls))

    @classmethod
    def file(cls, path: str, format: str = "auto") -> Input:  # noqa: A002
        """Return the input that is a file, or standard input for ``-``."""
        if path == "-":
            return cls("stdin", "stdin", format)
        return cls("file", path, format, [], os.path.abspath(path), *(_state_of(path) or (None, None)))  # noqa: PTH100

    @classmethod
    def load(cls, dumped: Any) -> Input:
        """Return the input of which ``dump`` made this."""
        loaded = msgspec.convert(dumped, cls)
        return loaded._with_texts(_characters, in_bytes=False) if loaded.in_bytes else loaded

    def dump(self) -> dict[str, Any]:
        """Return JSON values. What is not UTF-8 is kept in bytes: JSON of PostgreSQL's refuses lone surrogates."""
        texts = "".join((self.name, self.path, *self.urls))
        is_utf8 = texts.isascii() or not any("\ud800" <= character <= "\udfff" for character in texts)
        dumped: dict[str, Any] = msgspec.to_builtins(self if is_utf8 else self._with_texts(_bytes, in_bytes=True))
        return dumped

    def _with_texts(self, change: Callable[[str], str], *, in_bytes: bool) -> Input:
        name, path, urls = change(self.name), change(self.path), [change(url) for url in self.urls]
        return msgspec.structs.replace(self, name=name, path=path, urls=urls, in_bytes=in_bytes)

    def open(self, tell: Callable[[str], None] = lambda text: None) -> Iterator[Entry]:
        """Return the entries; ``tell`` gets a line for each kind of thing that is repaired. Raises SourceError."""
        if self.kind == "arguments":
            return open_arguments(self.urls)
        return open_source("-" if self.kind == "stdin" else self.path, self.format, name=self.name, tell=tell)

    def check_unchanged(self) -> None:
        """Raise SourceError where reading it again would not give what it gave."""
        if self.kind == "arguments":
            return
        if self.kind != "file" or self.size is None:
            raise SourceError(f"{self.name} cannot be read a second time")
        now = _state_of(self.path)
        if now is None:
            raise SourceError(f"{self.name} is not there any more (it was {self.path})")
        if now != (self.size, self.modified):
            raise SourceError(f"{self.name} has been changed since")


class Inputs:
    """The entries of several inputs, one after the other. Opening raises SourceError for any of them; iterate once.

    ``begun`` and ``passed`` say where to begin: at which input, and after how many of its entries; ``read`` is how many
    entries of the whole run are accounted for by that.
    """

    def __init__(self, inputs: Sequence[Input], *, begun: int = 0, passed: int = 0, read: int = 0) -> None:
        self._inputs = inputs
        self._begun = begun
        self._passed = passed
        self._starts = [read - passed]
        self._notes = _Notes()
        with contextlib.ExitStack() as opened:
            self._sources = []
            for source in inputs[begun:]:
                self._sources.append(source.open(self._notes.add))
                _close_at_exit(opened, self._sources[-1])
            self._opened = opened.pop_all()

    @classmethod
    def again(cls, dumped: Sequence[Any], offset: dict[str, Any] | None, read: int) -> Inputs:
        """Return what is left of a run's inputs. Raises SourceError for what cannot be read again."""
        if not dumped:
            raise SourceError("it cannot be read a second time")
        inputs = [Input.load(item) for item in dumped]
        begun, passed = (offset or {}).get("input", 0), (offset or {}).get("entries", 0)
        for source in inputs[begun:]:
            source.check_unchanged()
        return cls(inputs, begun=begun, passed=passed, read=read)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have the listener hear what is repaired while reading, and what was so far; call it before iterating."""
        self._notes.listen(listener)

    def __iter__(self) -> Generator[Entry, None, None]:
        with self._opened:
            count = self._starts[0]
            for number, source in enumerate(self._sources):
                if number:
                    self._starts.append(count)
                else:
                    count += self._passed
                    source = islice(source, self._passed, None)  # noqa: PLW2901
                for entry in source:
                    count += 1
                    yield entry

    @property
    def description(self) -> str:
        """Where the entries come from, for people."""
        return ", ".join(source.name for source in self._inputs)

    def dump(self) -> list[dict[str, Any]]:
        """Return what ``again`` takes, as JSON values."""
        return [source.dump() for source in self._inputs]

    def offset(self, read: int) -> dict[str, int]:
        """Return where the entry number ``read`` of the run, from 1, stands: its input, and its number in that."""
        place = max(0, bisect_right(self._starts, read - 1) - 1)
        return {"input": self._begun + place, "entries": read - self._starts[place]}


class _Notes:
    """Keeps notes until there is a listener. On its own: an open file must not refer to its ``Inputs``."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._listener: Callable[[str], None] | None = None

    def add(self, text: str) -> None:
        """Pass a note on, or keep it."""
        try:
            (self._listener or self._kept.append)(text)
        except Exception as exc:  # noqa: BLE001  (a stream that cannot be written never stops reading)
            report_defect(exc, "showing a note on a source")

    def listen(self, listener: Callable[[str], None]) -> None:
        """Pass on what was kept, and what is to come."""
        self._listener = listener
        kept, self._kept = self._kept, []
        for text in kept:
            self.add(text)


def _close_at_exit(stack: contextlib.ExitStack, source: Iterator[Entry]) -> None:
    if isinstance(source, Generator):
        stack.callback(source.close)


def _bytes(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


def _characters(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


def _state_of(path: str) -> tuple[int, int] | None:
    """Return size and time of change of a regular file, None for anything else."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
