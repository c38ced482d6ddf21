"""What targets are asked with that do not say otherwise: a run's method and body."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from fetcher.sources.entry import Entry, rejection
from fetcher.sources.fields import WITHOUT_BODY


def with_defaults(entries: Iterator[Entry], *, method: str | None, data: bytes | None) -> Iterator[Entry]:
    """Return the entries with a method and a body for the targets that have none of their own.

    ``data`` goes with targets whose input names neither a method nor a body. Without ``method`` it is POST where there
    is ``data``, as with curl. A target whose body the method cannot carry becomes a rejected line.
    """
    if method is None and data is None:
        return entries
    return _with_defaults(entries, method or "POST", data)


def _with_defaults(entries: Iterator[Entry], method: str, data: bytes | None) -> Generator[Entry, None, None]:
    try:
        for entry in entries:
            target = entry.target
            if target is None or entry.own_method:
                yield entry
            elif target.body is not None and method in WITHOUT_BODY:
                reason = f"body: a {method} request has none (--method); name another method with this target"
                yield rejection(entry.source, entry.line, target.url, reason)
            else:
                body = data if target.body is None else target.body
                yield msgspec.structs.replace(entry, target=msgspec.structs.replace(target, method=method, body=body))
    finally:
        if isinstance(entries, Generator):
            entries.close()
