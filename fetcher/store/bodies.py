"""Content to rows and files: compressed where that saves something, kept once, large ones in Django's file storage."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import msgspec
from django.core.files.base import ContentFile, File
from django.core.files.storage import storages

from fetcher.engine.bodies import PIECE, SpilledBody
from fetcher.models import Body
from fetcher.packing import pack, pack_chunks
from fetcher.store.sql import insert_new, lock_name, rows_among
from fetcher.texts import first_line

FOLDER = "bodies"
"""Where the file storage keeps them: ``bodies/ab/cd/<sha256>``, with ``.zst`` where compressed."""
LARGE = 256 * 2**10
"""Bytes; several bodies above it are hashed and compressed side by side."""
_WORTH_COMPRESSING = 128
"""Bytes; smaller bodies gain nothing."""
_SAMPLE = 16 * 2**20
"""Bytes; of a larger body that was spilled so many are compressed first, to see whether it is worth it."""
_FIELDS = ("sha256", "size", "encoding", "content", "file")


class StorageFailed(OSError):
    """The file storage could not keep a body: the operator's to mend, and no target's fault."""


class Content(msgspec.Struct):
    """A body on its way to the database. ``size`` is in decoded bytes; ``packed`` says that compressing was tried.

    One that was spilled is compressed into a file of its own, which ``close`` removes.
    """

    sha256: bytes
    size: int
    content: bytes | SpilledBody | None
    encoding: str = ""
    packed: bool = False
    made: SpilledBody | None = None

    def pack(self) -> None:
        """Compress the content where that makes it smaller, unless that was done."""
        if self.packed or self.content is None:
            return
        self.packed = True
        if isinstance(self.content, SpilledBody):
            if _shrinks(self.content):
                self._pack_into_file(self.content)
            return
        if self.size >= _WORTH_COMPRESSING and (found := pack(self.content)) is not None:
            self.encoding, self.content = "zstd", found

    def _pack_into_file(self, body: SpilledBody) -> None:
        self.made = body.beside()
        self.made.write(pack_chunks(body.chunks()))
        if len(self.made) < self.size:
            self.encoding, self.content = "zstd", self.made
        else:
            self.close()

    def close(self) -> None:
        """Remove what compressing made."""
        if self.made is not None:
            self.made.close()


def _shrinks(body: SpilledBody) -> bool:
    """Whether the beginning of a body does: archives and films are not written a second time to find that out."""
    if len(body) <= _SAMPLE:
        return True
    return sum(map(len, pack_chunks(islice(body.chunks(), _SAMPLE // PIECE)))) < _SAMPLE


def prepare(body: bytes | SpilledBody, *, keep: bool = True, stored: Container[bytes] = ()) -> Content:
    """Hash a body and compress it; without ``keep`` the hash is all.

    Those in ``stored`` (SHA-256) are not compressed: they are thought to be in the database already. Raises SpillFailed
    where there is no room to compress a body that was spilled.
    """
    sha256 = _digest(body) if isinstance(body, SpilledBody) else hashlib.sha256(body).digest()
    content = Content(sha256, len(body), body if keep else None)
    if content.sha256 not in stored:
        try:
            content.pack()
        except BaseException:
            content.close()
            raise
    return content


def prepare_all(
    bodies: Sequence[bytes | SpilledBody | None], *, keep: bool = True, stored: Container[bytes] = ()
) -> list[Content | Exception | None]:
    """Do as ``prepare`` for each body, large ones side by side: neither hashing nor compressing holds the GIL.

    What a body raised stands in its place. Raises OSError only, SpillFailed among them.
    """
    large = [place for place, body in enumerate(bodies) if body is not None and len(body) > LARGE]
    if len(large) > 1:
        return _prepare_beside(bodies, large, keep=keep, stored=stored)
    return [None if body is None else _prepared(body, keep, stored) for body in bodies]


def _prepared(body: bytes | SpilledBody, keep: bool, stored: Container[bytes]) -> Content | Exception:
    try:
        return prepare(body, keep=keep, stored=stored)
    except OSError:
        raise
    except Exception as exc:  # noqa: BLE001  (it costs that body's result)
        return exc


def _prepare_beside(
    bodies: Sequence[bytes | SpilledBody | None], large: Sequence[int], *, keep: bool, stored: Container[bytes]
) -> list[Content | Exception | None]:
    found: list[Content | Exception | None] = [None] * len(bodies)

    def fill(place: int) -> None:
        body = bodies[place]
        found[place] = None if body is None else _prepared(body, keep, stored)

    apart = frozenset(large)
    try:
        with ThreadPoolExecutor(min(len(large), os.cpu_count() or 1), thread_name_prefix="trawl-bodies") as pool:
            working = pool.map(fill, large)
            for place in range(len(bodies)):
                if place not in apart:
                    fill(place)
            list(working)  # raises what went wrong there
    except BaseException:
        close_all(found)
        raise
    return found


def close_all(contents: Iterable[Content | Exception | None]) -> None:
    """Remove what compressing made, once it is stored or given up."""
    for content in contents:
        if isinstance(content, Content):
            content.close()


def save_bodies(contents: Iterable[Content], *, storage: str, file_threshold: int) -> dict[bytes, int]:
    """Store what is not stored yet and return the row id for each SHA-256. Runs inside the recording transaction.

    A file is written before the row that names it is committed; a crash in between leaves a file that the next body of
    the same content uses.
    """
    wanted = {content.sha256: content for content in contents}
    known, hollow = _stored(list(wanted))
    missing = [content for sha, content in sorted(wanted.items()) if sha not in known]
    filled = [content for sha, content in sorted(wanted.items()) if sha in hollow and content.content is not None]
    stored = {content.sha256: _stored_form(content, storage, file_threshold) for content in missing + filled}
    new = insert_new(Body, _FIELDS, [(body.sha256, body.size, *stored[body.sha256]) for body in missing])
    for body in filled:
        encoding, content_bytes, file = stored[body.sha256]
        Body.objects.filter(sha256=body.sha256).update(encoding=encoding, content=content_bytes, file=file)
    known |= new
    if others := [content.sha256 for content in missing if content.sha256 not in new]:  # somebody else's, meanwhile
        known |= _stored(others)[0]
    return known


def _stored_form(content: Content, storage: str, file_threshold: int) -> tuple[str, bytes | None, str]:
    """Return encoding, bytes and file of a body's row, and write the file. Raises StorageFailed.

    The content stays as it is: a transaction that fails is tried again with it.
    """
    content.pack()
    if content.content is not None and len(content.content) > file_threshold:
        return content.encoding, None, _save_file(content, storage)
    if isinstance(content.content, SpilledBody):
        return content.encoding, content.content.read(), ""
    return content.encoding, content.content, ""


def _digest(body: SpilledBody) -> bytes:
    with body.open() as file:
        return hashlib.file_digest(file, "sha256").digest()


def _stored(shas: list[bytes]) -> tuple[dict[bytes, int], set[bytes]]:
    """Return the row id for each of these that is stored, and those of which only the hash is.

    The rows are kept from pruning, which may be removing one at this moment, until the transaction is over. They are
    locked in one order, so that two transactions never wait for each other.
    """
    sql = "SELECT sha256, id, content IS NULL AND file = '' FROM fetcher_body WHERE sha256 {among} ORDER BY id"
    ids, hollow = {}, set()
    for sha, pk, empty in rows_among(sql, shas, lock="FOR KEY SHARE"):
        ids[bytes(sha)] = pk
        if empty:
            hollow.add(bytes(sha))
    return ids, hollow


def _save_file(content: Content, alias: str) -> str:
    name = content.sha256.hex()
    lock_name(name)  # until the row is committed: a file without a row is removed by pruning
    try:
        return _save_as(f"{FOLDER}/{name[:2]}/{name[2:4]}/{name}{'.zst' if content.encoding else ''}", content, alias)
    except OSError:
        raise
    except Exception as exc:  # whatever the storage's own library raises
        text = f"the file storage {alias!r} failed: {type(exc).__name__}: {first_line(exc)}"
        raise StorageFailed(text) from exc


def _save_as(path: str, content: Content, alias: str) -> str:
    storage = storages[alias]
    assert content.content is not None
    if storage.exists(path) and storage.size(path) == len(content.content):
        return path
    if not isinstance(content.content, SpilledBody):
        return storage.save(path, ContentFile(content.content))
    with content.content.open() as file:
        return storage.save(path, File(file))
