"""JMESPath expressions over JSON bodies, within bounds. Runs in the fetching process and in its evaluator process.

Nothing here limits time or memory: ``fetcher.evaluator`` does, around what ``is_path`` does not prove to be cheap.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import warnings
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from fetcher.texts import clean_text

MAX_EXPRESSION = 1000
"""Characters; a JMESPath expression longer than this is refused."""
MAX_EXTRACTED = 64 * 2**10
"""Bytes of JSON that an extracted value may take."""
MAX_DEPTH = 100
"""Levels of nesting that an extracted value may have: every reader, with whatever stack it has left, can follow it."""
_MAX_BITS = 13_288
"""Bits of an extracted integer, 4,000 digits: Python refuses to print or read one of more than 4,300."""
_PATH = frozenset({"field", "subexpression", "index", "index_expression", "current", "identity", "pipe"})
"""Kinds of nodes that only pick a part of their input: each is visited once and none makes a new value."""
# Within strings as well, where it is harmless: a look-behind keeps the search linear.
_HUGE_NUMBER = re.compile(rb"(?<![0-9])[0-9]{4001}")
_BOM = len(codecs.BOM_UTF8)
_FAILURES = (JMESPathError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What JMESPath's functions raise for values of another type: whatever Python raises."""


class NotExtracted(Exception):
    """An expression has no value that can be kept. The text is the remark that is saved with the result."""


def compile_expression(text: str) -> ParsedResult:
    """Compile an expression. Raises ValueError saying why it cannot be read."""
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"must be at most {MAX_EXPRESSION} characters long, not {len(text)}")
    try:
        with warnings.catch_warnings():
            # A literal that is not JSON (`a`) is a string: jmespath's older syntax, which it may drop one day.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            return jmespath.compile(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (JMESPathError, ValueError) as exc:
        raise ValueError(f"is not a JMESPath expression: {' '.join(str(exc).split())}") from None


def is_path(expression: ParsedResult) -> bool:
    """Whether an expression is fields and indexes only (``a.b[0].c``), so that its value is a part of the body."""
    nodes = [expression.parsed]
    while nodes:
        node = nodes.pop()
        if node["type"] not in _PATH:
            return False
        nodes += node["children"]
    return True


def evaluate(expression: ParsedResult, body: bytes | bytearray) -> Any:
    """Return the JSON value that an expression finds in a body, None where it finds nothing or the body is not JSON.

    It can be stored by every database: NUL, which PostgreSQL's jsonb refuses, becomes U+FFFD, and NaN and infinities
    null. Raises NotExtracted.
    """
    try:
        value = msgspec.json.decode(body[_BOM:] if body.startswith(codecs.BOM_UTF8) else body)
    except ValueError:
        return None
    except RecursionError:
        raise NotExtracted("the expression was not applied: the answer is nested too deeply") from None
    try:
        found = expression.search(value)
    except _FAILURES:
        return None
    except RecursionError:
        raise NotExtracted("the expression was stopped: it is nested too deeply for this answer") from None
    return _fitting(found)


def is_json_text(body: bytes | bytearray) -> bool:
    """Whether a body is JSON that every reader can read: UTF-8, and without numbers of more than 4,000 digits.

    Linear in its length, and no object is made of it.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        body.decode()
    except (ValueError, RecursionError):
        return False
    return _HUGE_NUMBER.search(body) is None


def _fitting(found: Any) -> Any:
    """Return a value as it can be stored and sent anywhere. Raises NotExtracted for one that is too large."""
    value = _Copy().of(found, 0)
    if value is not None and len(json.dumps(value, ensure_ascii=False).encode()) > MAX_EXTRACTED:
        raise _too_large()
    return value


class _Copy:
    """A clean copy of a value.

    A short expression can make a value of a few lists, each many times in the next, that is endless once it is written
    down. So its parts are counted while they are copied: each takes a byte at least.
    """

    def __init__(self) -> None:
        self._left = MAX_EXTRACTED

    def of(self, value: Any, depth: int) -> Any:
        """Return the copy of a part that is so deep in the value. Raises NotExtracted."""
        self._left -= len(value) if isinstance(value, str) else 1
        if self._left < 0:
            raise _too_large()
        match value:
            case None | bool():
                return value
            case str():
                return clean_text(value)
            case float():
                return value if math.isfinite(value) else None
            case int():
                return _printable(value)
            case list() | dict() if depth == MAX_DEPTH:
                raise NotExtracted(f"the extracted value is not saved: it is nested more than {MAX_DEPTH} levels deep")
            case list():
                return [self.of(item, depth + 1) for item in value]
            case dict():
                return {self.of(key, depth): self.of(item, depth + 1) for key, item in value.items()}
            case _:
                return None  # an expression (&a) is not a value


def _printable(value: int) -> int:
    if value.bit_length() > _MAX_BITS:
        raise NotExtracted("the extracted value is not saved: it has a number of more than 4000 digits")
    return value


def _too_large() -> NotExtracted:
    return NotExtracted(f"the extracted value is not saved: it takes more than {MAX_EXTRACTED} bytes")
