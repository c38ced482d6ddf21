r"""JSON lines: an object each, or a URL in quotes; blank lines are passed over. Or an array of them, over any lines.

``{"url": "https://example.org/", "method": "POST", "headers": {"Accept": "text/html"}, "body": "a=1", "label": 7}``

``headers`` may be a list of ``[name, value]`` pairs as well; ``retry`` (true) opts an unsafe method into retries. Of a
result, as ``--output ndjson`` and ``export_run`` write it, URL, method and label are taken.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import msgspec

from fetcher.sources.entry import Entry, entry_for_url, redacted
from fetcher.sources.fields import MAX_RECORD, NAMES, FieldError, Fields, check_result_method, entry_for_fields
from fetcher.sources.json_values import json_values
from fetcher.sources.stream import Stream

_KEYS = re.compile(rb'"(?:url|method|headers|body|label|retry)"')
_BEGINNING = re.compile(rb'\{\s*"url"\s*:\s*"([^"\\]{1,1000})')
_PLACE = re.compile(r" - at `(?:key in )?\$\.([a-z]+)")
_FOUND = re.compile(r"Expected `[^`]*`, got `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_URL_VALUE = re.compile(rb'(?:^|"url"\s*:\s*)"([^"\\]*)"')
_WRAPPED = re.compile(rb'"([A-Za-z_]\w{0,40})"\s*:\s*\[\s*(?:\{|"https?:)')
_HEAD = 64 * 2**10
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


class _Result(msgspec.Struct, gc=False):
    """What tells a result of ours (``fetcher.payloads.ResultItem``) from other records."""

    url: str
    method: str
    label: str | None
    run: int
    position: int
    final_url: str
    error_kind: str | None


class _Any(msgspec.Struct, gc=False):
    url: Any = msgspec.UNSET


_any_decoder = msgspec.json.Decoder(_Any)
_result_decoder = msgspec.json.Decoder(_Result)
_decoder: msgspec.json.Decoder[_Record | str] = msgspec.json.Decoder(_Record | str)
_headers_decoder = msgspec.json.Decoder(dict[str, str] | list[tuple[str, str]])


def read_jsonl(stream: Stream) -> Iterator[Entry]:
    """Yield the entries of JSON lines, or of a document that is an array or has objects over several lines.

    Raises SourceError for an object that has the list inside, and for a document without an end. Lines are read one by
    one where they can be: a broken one then costs itself alone.
    """
    is_document = _is_document(stream.head())
    is_first = True
    for line, raw, whole in json_values(stream) if is_document else _lines(stream):
        entry = (
            read_entry(stream.name, line, raw, results=True) if whole else Entry(stream.name, line, reason=_TOO_LONG)
        )
        if is_first and entry.target is None:
            _refuse_wrapped(stream, raw, whole=whole)
        is_first = False
        yield _noted(stream, raw, entry)


def _lines(stream: Stream) -> Iterator[tuple[int, bytes, bool]]:
    for raw, whole in stream.lines(MAX_RECORD):
        text = raw.strip(b" \t\r\n").removeprefix(codecs.BOM_UTF8)
        if text or not whole:
            yield stream.line, text, whole


def _is_document(head: bytes) -> bool:
    """Return whether a value goes on behind its first line, or a comma does not belong to its line's value."""
    text = head.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n")
    first, end, _ = text.partition(b"\n")
    return text.startswith(b"[") or (bool(end) and first.rstrip().endswith((b"{", b"[", b",", b":")))


def _refuse_wrapped(stream: Stream, raw: bytes, *, whole: bool) -> None:
    """Refuse an object that holds the list, as APIs answer and ``--output json`` prints."""
    if not raw.startswith(b"{") or not (found := _WRAPPED.search(raw[:_HEAD])):
        return
    has_url = b'"url"' in raw[: found.start()]
    if whole:
        try:
            has_url = _any_decoder.decode(raw).url is not msgspec.UNSET
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return
    if not has_url:
        name = found[1].decode(errors="replace")
        raise stream.error(f"has its list inside an object, under {redacted(name)!r}; pass the list: jq '.{name}' does")


def _noted(stream: Stream, raw: bytes, entry: Entry) -> Entry:
    if entry.target is not None:
        if not raw.isascii() and (url := _URL_VALUE.search(raw)):
            stream.trim(url[1].decode(errors="replace"), entry.line)
    elif "is no known field" in entry.reason and not _is_slip(entry.reason.partition(":")[0]):
        stream.note(entry.line, "records have fields that are not known; jq -c '{url}' keeps the URL alone "
                    "(jq -c '.[] | {url}' in an array)")  # fmt: skip
    return entry


def _is_slip(name: str) -> bool:
    """Return whether a field was meant to be one of ours: leaving it out would make another request."""
    return bool(get_close_matches(name.lower(), NAMES, cutoff=0.7))


def read_entry(name: str, line: int, raw: bytes, *, results: bool = False) -> Entry:
    """Return the entry for one JSON value; ``results`` takes a result of ours for its request as well."""
    if len(raw) > MAX_RECORD:
        return Entry(name, line, reason=_TOO_LONG)
    try:
        found = _decode(raw, results=results)
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


def _decode(raw: bytes, *, results: bool) -> _Record | str:
    """Return a record or a URL. Raises msgspec.DecodeError, UnicodeError, RecursionError, FieldError."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        if not results or b'"final_url"' not in raw:
            raise
        try:
            result = _result_decoder.decode(raw)
        except msgspec.DecodeError:
            result = None
        if result is None:
            raise
    check_result_method(result.method)
    return _Record(result.url, result.method, label=result.label)


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
