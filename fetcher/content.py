"""Bodies to JSON or text, as an answer shows them: in pieces, so that no large or hostile one holds other threads."""

from __future__ import annotations

import codecs
import functools
import re
from _multibytecodec import MultibyteIncrementalDecoder
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from fetcher.engine.bodies import SpilledBody
from fetcher.expressions import is_json_text
from fetcher.sandbox import Sandbox

PIECE = 16 * 2**10
"""Bytes that are decoded at once: the slowest codec takes 4 ms for it."""
SMALL_JSON_BYTES = 2**20
"""JSON of at most this size is checked in this process, which takes 6 ms at worst."""
_CHECK_SECONDS = 10.0
_JSON = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?json", re.ASCII)
_TEXT = re.compile(
    r"text/.+|.+\+xml|application/(?:xml|(?:x-)?javascript|ecmascript|(?:x-)?yaml|toml|x-www-form-urlencoded"
    r"|(?:x-)?ndjson|jsonl|sql|graphql)"
)
# Python knows more codecs than the Web does, some of which take quadratic time on a hostile body.
_CHARSETS = re.compile(
    r"utf-(?:8|16|32)(?:-[lb]e|-sig)?|ascii|iso8859-\d+|cp\d+|koi8-[rut]|mac-\w+|tis-620"
    r"|gb\w+|hz|big5\w*|euc_\w+|shift_jis\w*|iso2022_\w+|johab"
)
_encode = msgspec.json.Encoder().encode

Content = tuple[Raw | UnsetType, Raw | UnsetType]
"""A body as (json, text), both as JSON to be put into an answer; at most one is set."""


def is_json(content_type: str) -> bool:
    """Whether a Content-Type says that there is something to extract."""
    return _JSON.fullmatch(_media_type(content_type)) is not None


def read_content(content_type: str, body: bytes | SpilledBody | None) -> Content:
    """Return a body as JSON where it is that, as text where it is text: decoded by its charset, errors replaced."""
    if body is None:
        return UNSET, UNSET
    if is_json(content_type):
        whole = body.read() if isinstance(body, SpilledBody) else body
        whole = whole.removeprefix(codecs.BOM_UTF8)
        return (Raw(whole), UNSET) if _is_json_text(whole) else (UNSET, _as_text(_decoder(content_type, whole), whole))
    media_type = _media_type(content_type)
    if _TEXT.fullmatch(media_type):
        return UNSET, _as_text(_decoder(content_type, next(_pieces(body), b"")), body)
    if not media_type:
        try:
            return UNSET, _as_text(_strictly(), body)
        except UnicodeDecodeError:
            return UNSET, UNSET
    return UNSET, UNSET


def decoded(content_type: str, beginning: bytes) -> str:
    """Return the beginning of a text, decoded by the charset of its Content-Type (UTF-8 without one)."""
    return _decoder(content_type, beginning)(beginning, False).removeprefix("\ufeff")


def _is_json_text(body: bytes) -> bool:
    if len(body) <= SMALL_JSON_BYTES:
        return is_json_text(body)
    with Sandbox("", _CHECK_SECONDS) as sandbox:
        [answer] = sandbox.answers([body])
    return answer.json is not None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


Decode = Callable[[bytes, bool], str]
"""Decodes the next piece; the flag says that it is the last."""


def _as_text(decode: Decode, body: bytes | SpilledBody) -> Raw:
    parts = [_encode(decode(piece, False))[1:-1] for piece in _pieces(body)] + [_encode(decode(b"", True))[1:-1]]
    parts[0] = parts[0].removeprefix(codecs.BOM_UTF8)
    return Raw(b"".join((b'"', *parts, b'"')))


def _pieces(body: bytes | SpilledBody) -> Iterator[bytes]:
    if isinstance(body, SpilledBody):
        return body.chunks(PIECE)
    return (body[start : start + PIECE] for start in range(0, len(body), PIECE))


def _strictly() -> Decode:
    """Decode UTF-8 without NUL. Raises UnicodeDecodeError for anything else."""
    decode = codecs.getincrementaldecoder("utf-8")().decode

    def checked(piece: bytes, last: bool) -> str:
        if b"\x00" in piece:
            raise UnicodeDecodeError("utf-8", piece, 0, 1, "NUL")
        return decode(piece, last)

    return checked


def _decoder(content_type: str, beginning: bytes) -> Decode:
    named = re.search(r";\s*charset\s*=\s*\"?([\w:.+-]{1,40})", content_type, re.ASCII | re.IGNORECASE)
    try:
        charset = codecs.lookup(named[1]).name if named else "utf-8"
    except LookupError:
        charset = "utf-8"
    if not _CHARSETS.fullmatch(charset):
        charset = "utf-8"
    if charset in ("utf-16", "utf-32") and not beginning.startswith(_BYTE_ORDER_MARKS[charset]):
        charset += "-le"  # the decoder of the other insists on a byte order mark
    table = _table(charset)
    if table is not None:
        return lambda piece, last: codecs.charmap_decode(piece, "strict", table)[0]
    return codecs.getincrementaldecoder(charset)("replace").decode


_BYTE_ORDER_MARKS = {"utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
                     "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)}  # fmt: skip


@functools.lru_cache(maxsize=128)
def _table(charset: str) -> str | None:
    """Return the characters of a charset of single bytes, U+FFFD for none: Python takes 1 µs to replace one byte."""
    kind: Any = codecs.lookup(charset).incrementaldecoder
    if charset.startswith("utf-") or issubclass(kind, MultibyteIncrementalDecoder):
        return None
    return bytes(range(256)).decode(charset, "replace")
