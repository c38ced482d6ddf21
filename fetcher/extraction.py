"""What an answer says: its body read as JSON or text, and what a JMESPath expression finds in it."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Callable
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from msgspec import UNSET, UnsetType

from fetcher.engine.bodies import SpilledBody
from fetcher.engine.types import Outcome
from fetcher.texts import clean_json

Extract = Callable[[Outcome], Any]
"""Gives the JSON value that an expression finds in an outcome's body, None where it finds nothing."""

MAX_EXPRESSION = 1000
"""Characters; a JMESPath expression longer than this is refused."""

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


def parse_extract(text: str) -> Extract:
    """Compile a JMESPath expression to a function of outcomes. Raises ValueError saying why it cannot be read.

    The function never fails: an expression that does not fit a body finds nothing in it. What it finds can be
    stored by every database: NUL, which PostgreSQL's jsonb refuses, becomes U+FFFD, and NaN and infinities null.

    A JSON body that was spilled is read into memory whole, one at a time; ``max_body`` is its bound. Others are not
    looked at.
    """
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"must be at most {MAX_EXPRESSION} characters long, not {len(text)}")
    try:
        with warnings.catch_warnings():
            # A literal that is no JSON (`a`) is a string: jmespath's older syntax, which it may drop one day.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            expression = jmespath.compile(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (JMESPathError, ValueError) as exc:
        raise ValueError(f"is not a JMESPath expression: {' '.join(str(exc).split())}") from None

    def extract(outcome: Outcome) -> Any:
        content_type = outcome.header("content-type")
        if not is_json(content_type):
            return None
        value, _ = read_content(content_type, outcome.body)
        if value is UNSET:
            return None
        try:
            found = expression.search(value)
        except (JMESPathError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
            return None  # JMESPath's functions raise whatever Python raises for values of another type
        return clean_json(found)

    return extract


def is_json(content_type: str) -> bool:
    """Whether a Content-Type says that there is something to extract."""
    return _JSON.fullmatch(_media_type(content_type)) is not None


def read_content(content_type: str, body: bytes | SpilledBody | None) -> tuple[Any | UnsetType, str | UnsetType]:
    """Return a body as (json, text), of which at most one is set: text is decoded by its charset, errors replaced."""
    if body is None:
        return UNSET, UNSET
    if isinstance(body, SpilledBody):
        body = body.read()
    if is_json(content_type):
        try:
            return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8)), UNSET
        except (ValueError, RecursionError):
            return UNSET, _decoded(content_type, body)
    media_type = _media_type(content_type)
    if _TEXT.fullmatch(media_type):
        return UNSET, _decoded(content_type, body)
    if not media_type and b"\x00" not in body:
        try:
            return UNSET, body.decode()
        except UnicodeDecodeError:
            return UNSET, UNSET
    return UNSET, UNSET


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _decoded(content_type: str, body: bytes) -> str:
    named = re.search(r";\s*charset\s*=\s*\"?([\w:.+-]{1,40})", content_type, re.ASCII | re.IGNORECASE)
    try:
        charset = codecs.lookup(named[1]).name if named else "utf-8"
    except LookupError:
        charset = "utf-8"
    text = body.decode(charset if _CHARSETS.fullmatch(charset) else "utf-8", "replace")
    return text.removeprefix("\ufeff")
