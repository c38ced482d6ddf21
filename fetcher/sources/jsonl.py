r"""JSON lines: an object each, or a URL in quotes; blank lines are passed over.

``{"url": "https://example.org/", "method": "POST", "headers": {"Accept": "text/html"}, "body": "a=1", "label": 7}``

``headers`` may be a list of ``[name, value]`` pairs as well; ``retry`` (true) opts an unsafe method into retries.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fetcher.sources.entry import Entry, entry_for_url, redacted
from fetcher.sources.fields import MAX_RECORD, NAMES, FieldError, Fields, entry_for_fields
from fetcher.sources.stream import Stream

_KEYS = re.compile(rb'"(?:url|method|headers|body|label|retry)"')
_BEGINNING = re.compile(rb'\{\s*"url"\s*:\s*"([^"\\]{1,1000})')
_PLACE = re.compile(r" - at `(?:key in )?\$\.([a-z]+)")
_FOUND = re.compile(r"Expected `[^`]*`, got `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_TOO_LONG = f"longer than {MAX_RECORD} bytes"
_RIGHT = {
    "url": "must be a string",
    "method": 'must be a string such as "POST"',
    "headers": 'must be an object of strings such as {"Accept": "text/html"}, or a list of [name, value] pairs',
    "body": "must be a string; put JSON into one, with its quotes escaped",
    "label": "must be a string or a number",
    "retry": "must be true or false",
}


class _Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    url: str
    method: str | None = None
    headers: dict[str, str] | list[tuple[str, str]] | None = None
    body: str | None = None
    label: str | int | float | None = None
    retry: bool | None = None


_decoder = msgspec.json.Decoder(_Record | str)
_headers_decoder = msgspec.json.Decoder(dict[str, str] | list[tuple[str, str]])


def read_jsonl(stream: Stream) -> Iterator[Entry]:
    """Yield the entries of JSON lines. Raises SourceError for a JSON document that is no lines."""
    _refuse_documents(stream)
    for raw, whole in stream.lines(MAX_RECORD):
        text = raw.strip(b" \t\r\n")
        if whole and not text:
            continue
        if not whole:
            yield Entry(stream.name, stream.line, reason=_TOO_LONG)
        else:
            yield read_entry(stream.name, stream.line, text)


def _refuse_documents(stream: Stream) -> None:
    first = stream.head().strip(b" \t\r\n")
    if first.startswith(b"["):
        raise stream.error("is one JSON array, not lines of JSON; write an object a line (jq -c '.[]' does)")
    if first.partition(b"\n")[0].strip() == b"{":
        raise stream.error("has JSON objects over several lines; write each on one line (jq -c . does)")


def read_entry(name: str, line: int, raw: bytes) -> Entry:
    """Return the entry for one JSON value."""
    if len(raw) > MAX_RECORD:
        return Entry(name, line, reason=_TOO_LONG)
    try:
        found = _decoder.decode(raw)
        if isinstance(found, str):
            return entry_for_url(name, line, found)
        _refuse_repeated_keys(raw)
        label = _label(found.label)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        return Entry(name, line, value=_shown(raw), reason=_reason(exc, raw))
    except FieldError as exc:
        return Entry(name, line, value=_shown(raw), reason=str(exc))
    fields = Fields(found.url, found.method, found.headers, found.body, label, found.retry)
    return entry_for_fields(name, line, fields)


def read_headers(text: str) -> dict[str, str] | list[tuple[str, str]]:
    """Read headers that stand alone, as a column of CSV has them. Raises FieldError."""
    try:
        found: dict[str, str] | list[tuple[str, str]] = _headers_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise FieldError(f"headers: {_RIGHT['headers']}") from None
    _refuse_any_repeated(text)
    return found


def _label(label: str | float | None) -> str | None:
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, float) and not math.isfinite(label):
        raise FieldError("label: the number is too large")
    return str(label)


def _refuse_repeated_keys(raw: bytes) -> None:
    """Refuse what parsers resolve differently (RFC 8259, section 4) and is most likely a mistake.

    Most lines are cleared by counting; only what could hide a key is parsed again.
    """
    keys = _KEYS.findall(raw)
    if len(keys) != len(set(keys)) or b"\\" in raw or raw.count(b"{") > 1:
        _refuse_any_repeated(raw.decode())


def _refuse_any_repeated(text: str) -> None:
    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise FieldError(f"{redacted(name[:40])}: is given more than once")
            found[name] = value
        return found

    json.loads(text, object_pairs_hook=check)


def _reason(exc: Exception, raw: bytes) -> str:
    text = str(exc)
    if isinstance(exc, UnicodeError):
        return "is not valid UTF-8"
    if isinstance(exc, RecursionError):
        return "is nested too deeply"
    if match := _UNKNOWN.match(text):
        return f"{redacted(match[1][:40])}: is no known field; there are {', '.join(NAMES)}"
    if "missing required field" in text:
        return "url: is missing"
    if (match := _PLACE.search(text)) and match[1] in _RIGHT:
        return f"{match[1]}: {_RIGHT[match[1]]}"
    if raw[:1] not in b'{["':
        return "is neither a JSON object nor a URL in quotes"
    if match := _FOUND.match(text):
        return f"must be an object, or a URL in quotes, not {match[1]}"
    if "truncated" in text:
        return "is not JSON: it ends too early"
    return f"is not JSON: {text.removeprefix('JSON is malformed: ')[:200]}"


def _shown(raw: bytes) -> str:
    """Return what may be shown of a line that could not be read: of an object its URL alone, headers may be secret."""
    if match := _BEGINNING.match(raw):
        return redacted(match[1].decode(errors="replace"))
    return "" if raw[:1] in b'{["' else redacted(raw[:1000].decode(errors="replace"))
