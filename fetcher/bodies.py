"""Stored bodies, read back. ``fetcher.store`` writes them.

A body lies in its row or, when it is large, in Django's file storage; in either place as it came or compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from django.core.files.storage import storages

from fetcher.conf import fetcher_settings
from fetcher.models import Body
from fetcher.packing import Damaged, unpack_chunks

CHUNK = 64 * 1024
"""Bytes; ``open_body`` gives no chunk larger than this."""


class BodyUnavailable(Exception):
    """A body is known but its bytes cannot be had: the file is gone or damaged. The text says which and why."""


def read_body(body: Body) -> bytes:
    """Return a body's decoded bytes at once. Raises BodyUnavailable."""
    return b"".join(open_body(body))


def open_body(body: Body) -> Iterator[bytes]:
    """Yield a body's decoded bytes in chunks of at most ``CHUNK``, whatever its size. Raises BodyUnavailable."""
    decode = _DECODERS.get(body.encoding)
    if decode is None:
        raise BodyUnavailable(f"body {body.pk} is stored in the unknown encoding {body.encoding!r}")
    try:
        yield from decode(_stored(body))
    except (Damaged, zlib.error) as exc:
        raise BodyUnavailable(f"body {body.pk} is damaged: {exc}") from None
    except OSError as exc:
        raise BodyUnavailable(f"the file {body.file!r} of body {body.pk} cannot be read: {exc}") from None


def _stored(body: Body) -> Iterator[bytes]:
    if body.file:
        with storages[fetcher_settings().body_storage].open(body.file, "rb") as stored:
            yield from stored.chunks(CHUNK)
    elif body.content is not None:
        content = memoryview(body.content)
        for start in range(0, len(content), CHUNK):
            yield bytes(content[start : start + CHUNK])
    elif body.size:
        raise BodyUnavailable(f"the content of body {body.pk} was not kept")


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    for chunk in chunks:
        waiting = chunk
        # What was stored compressed may be a thousand times larger: it is never inflated at one go.
        while waiting:
            if found := inflate.decompress(waiting, CHUNK):
                yield found
            waiting = inflate.unconsumed_tail
            if inflate.eof:
                return
    if rest := inflate.flush():
        yield rest
    if not inflate.eof:
        raise zlib.error("it ends too early")


_DECODERS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "": iter,
    "zstd": lambda chunks: unpack_chunks(chunks, CHUNK),
    "zlib": _inflated,  # written before zstd was
}
