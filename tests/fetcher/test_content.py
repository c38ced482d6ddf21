"""Bodies as an answer shows them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from fetcher.content import PIECE, SMALL_JSON_BYTES, read_content
from fetcher.engine.bodies import SpilledBody

JSON = "application/json"


def content(content_type: str, body: bytes | SpilledBody | None) -> tuple[Any, Any]:
    """Return what a reader of the answer gets."""
    found = read_content(content_type, body)
    return tuple(UNSET if part is UNSET else json.loads(bytes(part)) for part in found)  # type: ignore[return-value,arg-type]


@pytest.mark.parametrize(
    ("content_type", "body", "as_json", "as_text"),
    [
        (JSON, b"[1]", [1], UNSET),
        ("Application/Problem+JSON; charset=utf-8", b"{}", {}, UNSET),
        (JSON, b"\xef\xbb\xbf[1]", [1], UNSET),
        (JSON, b"123456789012345678901", 123456789012345678901, UNSET),
        (JSON, b"null", None, UNSET),
        (JSON, b"[1", UNSET, "[1"),
        (JSON, b'"\xff"', UNSET, '"\ufffd"'),
        (JSON, b"9" * 5000, UNSET, "9" * 5000),
        (JSON, b"[" * 100_000, UNSET, "[" * 100_000),
        (JSON, b"", UNSET, ""),
        ("text/html", b"", UNSET, ""),
        ("text/html", b'caf\xc3\xa9 "\\\n\x00\x1f', UNSET, 'café "\\\n\x00\x1f'),
        ("text/html", b"\xef\xbb\xbfa", UNSET, "a"),
        ("text/html; charset=latin-1", b"caf\xe9", UNSET, "café"),
        ('text/html;charset="ISO-8859-1"', b"caf\xe9", UNSET, "café"),
        ("text/html; charset=iso-8859-7", b"\xe1\xff", UNSET, "\u03b1\ufffd"),
        ("text/html; charset=ascii", b"a\xff", UNSET, "a\ufffd"),
        ("text/html; charset=utf-16", "a\U0001f600".encode("utf-16-le"), UNSET, "a\U0001f600"),
        ("text/html; charset=utf-16", "aé".encode("utf-16"), UNSET, "aé"),
        ("text/html; charset=utf-16", b"\xfe\xff\x00a", UNSET, "a"),
        ("text/html; charset=utf-16be", b"\xfe\xff\x00a", UNSET, "a"),
        ("text/html; charset=utf-32", b"", UNSET, ""),
        ("text/html; charset=shift_jis", "日本".encode("shift_jis"), UNSET, "日本"),
        ("text/html; charset=nonsense", b"caf\xe9", UNSET, "caf\ufffd"),
        ("text/html; charset=zlib", b"x", UNSET, "x"),
        ("text/html; charset=idna", b"x", UNSET, "x"),
        ("text/html; charset=punycode", b"x", UNSET, "x"),
        ("application/atom+xml", b"<a/>", UNSET, "<a/>"),
        ("image/png", b"\x89PNG", UNSET, UNSET),
        ("application/octet-stream", b"abc", UNSET, UNSET),
        ("", b"abc", UNSET, "abc"),
        ("", b"a\x00c", UNSET, UNSET),
        ("", b"\xff\xfe", UNSET, UNSET),
        ("", b"\xc3", UNSET, UNSET),
        (JSON, None, UNSET, UNSET),
    ],
)
def test_a_body_is_json_then_text_then_neither(
    content_type: str, body: bytes | None, as_json: Any, as_text: Any
) -> None:
    assert content(content_type, body) == (as_json, as_text)


@given(st.binary(max_size=50), st.text(max_size=20))
def test_any_body_is_read_under_any_charset(body: bytes, charset: str) -> None:
    content(f"text/plain; charset={charset}", body)


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "shift_jis", "gb18030", "iso2022_jp", "euc_kr", "cp1252"])
def test_characters_that_lie_across_two_pieces_are_whole(charset: str) -> None:
    text = "a" + "é漢한"[: 1 if charset == "cp1252" else 2 if charset != "euc_kr" else 3] * PIECE
    body = text.encode(charset, "ignore")
    assert content(f"text/plain; charset={charset}", body) == (UNSET, body.decode(charset))


@pytest.mark.parametrize(("content_type", "body"), [("text/plain", b"\xc3\xa9" * PIECE), (JSON, b"[1, 2]")])
def test_a_spilled_body_reads_the_same(tmp_path: Path, content_type: str, body: bytes) -> None:
    with contextlib.closing(SpilledBody(str(tmp_path))) as spilled:
        spilled.write([body])
        assert content(content_type, spilled) == content(content_type, body)


@pytest.mark.parametrize(("end", "is_json"), [(b"1]", True), (b"1", False)])
def test_large_json_is_checked_and_given_as_it_came(end: bytes, is_json: bool) -> None:
    body = b"[" + b"[]," * (SMALL_JSON_BYTES // 2) + end
    as_json, as_text = read_content(JSON, body)
    assert (as_json is UNSET, as_text is UNSET) == (not is_json, is_json)
    if is_json:
        assert bytes(as_json) == body  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain; charset=iso-8859-7", b"\xff" * 2**20),
        ("text/plain; charset=utf-16", b"\x00\xd8" * 2**19),
        ("text/plain; charset=big5", b"\xff" * 2**20),
        (JSON, b"[" + b"[]," * 2**20 + b"1]"),
    ],
    ids=["single bytes", "utf-16", "several bytes", "json"],
)
def test_a_hostile_body_holds_no_other_thread_for_50_ms(content_type: str, body: bytes) -> None:
    """The whole takes up to 0.9 s; that of another thread, which is always ready, is the time between two turns."""
    assert any(_longest_hold(content_type, body) < 0.05 for _ in range(10))


def _longest_hold(content_type: str, body: bytes) -> float:
    reader = threading.Thread(target=read_content, args=(content_type, body))
    longest, last = 0.0, time.monotonic()
    reader.start()
    while reader.is_alive():
        time.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest
