"""A run's bodies as files under safe names, each content once, and an index from results to files."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fetcher.bodies import BodyUnavailable, open_body
from fetcher.exports.files import regular_size, whole_file
from fetcher.models import Body, Result
from fetcher.payloads import ResultItem

_EXTENSION = re.compile(r"\.[a-z0-9]{1,10}")
_KNOWN = {"application/json": ".json", "text/html": ".html", "text/plain": ".txt", "application/xml": ".xml"}
"""What the systems' tables of types disagree about."""


class IndexItem(msgspec.Struct, frozen=True):
    """One line of the index; ``file`` is a name in the same folder, null where no body is stored."""

    result: int
    url: str
    status: str
    content_type: str | None
    body_sha256: str | None
    file: str | None


class BodyFolder:
    """Writes bodies into a folder. Nothing is ever written outside of it: names are a hash and a known extension."""

    def __init__(self, folder: Path, *, unavailable: Callable[[str], None]) -> None:
        self.folder = folder
        self.written = 0
        self.kept = 0
        self._unavailable = unavailable

    def add(self, items: Sequence[ResultItem]) -> list[IndexItem]:
        """Write the bodies of these results that are not there yet and return their lines of the index.

        Raises OSError. A body that cannot be read is told to ``unavailable``.
        """
        with_body = [item.id for item in items if item.body_sha256 is not None]
        rows = Result.objects.filter(id__in=with_body).values_list(
            "id", "representation__body_id", "representation__body__size"
        )
        bodies = {number: (body, size) for number, body, size in rows}
        return [self._index_item(item, bodies.get(item.id)) for item in items]

    def _index_item(self, item: ResultItem, body: tuple[int | None, int | None] | None) -> IndexItem:
        file = None
        if body is not None and body[0] is not None and item.body_sha256 is not None:
            name = f"{item.body_sha256}{extension(item.content_type)}"
            if self._write(name, body[0], body[1]):
                file = name
        return IndexItem(item.id, item.url, item.status, item.content_type, item.body_sha256, file)

    def _write(self, name: str, body: int, size: int | None) -> bool:
        path = self.folder / name
        if regular_size(path) == size:
            self.kept += 1
            return True
        row = Body.objects.filter(pk=body).first()
        if row is None:  # pruned a moment ago
            return False
        if row.content is None and not row.file:  # only the hash was kept
            return False
        try:
            with whole_file(path) as file:
                for chunk in open_body(row):
                    file.write(chunk)
        except BodyUnavailable as exc:
            self._unavailable(str(exc))
            return False
        self.written += 1
        return True


def extension(content_type: str | None) -> str:
    """Return the usual extension of a media type, with its dot; ``.bin`` where there is none."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    found = _KNOWN.get(media_type) or mimetypes.guess_extension(media_type) or ""
    return found if _EXTENSION.fullmatch(found) else ".bin"
