"""Content to rows and files: compressed where that saves something, kept once, large ones in Django's file storage."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from fetcher.models import Body
from fetcher.store.sql import in_batches, insert_rows, keep_rows, lock_name

FOLDER = "bodies"
"""Where the file storage keeps them: ``bodies/ab/cd/<sha256>``, with ``.z`` where compressed."""
_WORTH_COMPRESSING = 128
"""Bytes; smaller bodies gain nothing."""


@dataclass(slots=True)
class Content:
    """A body ready for storing. ``size`` is in decoded bytes."""

    sha256: bytes
    size: int
    encoding: str
    content: bytes | None
    file: str = ""


def prepare(body: bytes, *, keep: bool = True) -> Content:
    """Hash a body and compress it where that makes it smaller; without ``keep`` the hash is all."""
    encoding, content = "", body if keep else None
    if keep and len(body) >= _WORTH_COMPRESSING:
        compressed = zlib.compress(body, 3)
        if len(compressed) < len(body):
            encoding, content = "zlib", compressed
    return Content(hashlib.sha256(body).digest(), len(body), encoding, content)


def save_bodies(contents: Iterable[Content], *, storage: str, file_threshold: int) -> dict[bytes, int]:
    """Store what is not stored yet and return the row id for each SHA-256. Runs inside the recording transaction.

    A file is written before the row that names it is committed; a crash in between leaves a file that the next body of
    the same content uses.
    """
    wanted = {content.sha256: content for content in contents}
    known = _ids(list(wanted))
    kept = keep_rows(Body, known.values())  # pruning may be removing one at this moment
    known = {sha: pk for sha, pk in known.items() if pk in kept}
    missing = [content for sha, content in sorted(wanted.items()) if sha not in known]
    hollow = _hollow([known[sha] for sha, content in wanted.items() if sha in known and content.content is not None])
    filled = [content for sha, content in sorted(wanted.items()) if known.get(sha) in hollow]
    for content in missing + filled:
        if content.content is not None and len(content.content) > file_threshold:
            content.file = _save_file(content, storage)
            content.content = None
    insert_rows(
        Body,
        ("sha256", "size", "encoding", "content", "file"),
        [(body.sha256, body.size, body.encoding, body.content, body.file) for body in missing],
        skip_conflicts=True,
    )
    for body in filled:
        Body.objects.filter(sha256=body.sha256).update(encoding=body.encoding, content=body.content, file=body.file)
    return known | _ids([content.sha256 for content in missing])


def _ids(shas: list[bytes]) -> dict[bytes, int]:
    found = {}
    for batch in in_batches(shas):
        for sha, pk in Body.objects.filter(sha256__in=batch).values_list("sha256", "id"):
            found[bytes(sha)] = pk
    return found


def _hollow(ids: list[int]) -> set[int]:
    """Return the bodies of which only the hash was kept."""
    found: set[int] = set()
    for batch in in_batches(ids):
        hollow = Body.objects.filter(id__in=batch, content__isnull=True, file="")
        found.update(hollow.values_list("id", flat=True))
    return found


def _save_file(content: Content, alias: str) -> str:
    name = content.sha256.hex()
    path = f"{FOLDER}/{name[:2]}/{name[2:4]}/{name}{'.z' if content.encoding else ''}"
    storage = storages[alias]
    assert content.content is not None
    lock_name(name)  # until the row is committed: a file without a row is removed by pruning
    if storage.exists(path) and storage.size(path) == len(content.content):
        return path
    return storage.save(path, ContentFile(content.content))
