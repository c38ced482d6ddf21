"""What tests of the input formats share."""

from __future__ import annotations

from pathlib import Path

from fetcher.engine.types import Target
from fetcher.sources import Entry, SourceError, open_source


def read(path: Path, data: bytes, format: str = "auto") -> list[Entry]:  # noqa: A002
    """Write a source and return all its entries."""
    path.write_bytes(data)
    return list(open_source(str(path), format))


def targets(entries: list[Entry]) -> list[Target]:
    """Return the targets of entries none of which is a rejection."""
    assert [entry.reason for entry in entries if entry.target is None] == []
    return [entry.target for entry in entries if entry.target is not None]


def brief(entries: list[Entry]) -> list[tuple[int, str]]:
    """Return line and URL, or line and reason in brackets."""
    return [(entry.line, entry.target.url if entry.target else f"[{entry.reason}]") for entry in entries]


def story(path: Path, data: bytes, format: str = "auto") -> list[str]:  # noqa: A002
    """Return what a source comes to: ``GET url`` or ``line: reason`` for each entry, and the error that ended it."""
    told: list[str] = []
    path.write_bytes(data)
    try:
        told.extend(
            f"{entry.target.method} {entry.target.url}" if entry.target else f"{entry.line}: {entry.reason}"
            for entry in open_source(str(path), format)
        )
    except SourceError as exc:
        told.append(str(exc).replace(str(path), path.name))
    return told
