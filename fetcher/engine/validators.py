"""Which validators of a server are kept and sent back to it."""

from __future__ import annotations

import re

MAX_VALIDATOR = 1024
"""Characters of an ETag or Last-Modified that is kept; the longest in use have some 200."""
_SENDABLE = re.compile(r"[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


def usable_validator(text: str) -> str:
    """Return an ETag or Last-Modified that can be sent back as it is, or an empty string.

    Lenient where servers are: an ETag without quotes is in wide use and compared as a whole (RFC 9110, section 8.8.3).
    Refused are control characters, which h11 cannot send, text beyond obs-text, white space at the ends, more than
    ``MAX_VALIDATOR`` characters, and a bare ``*``, which as If-None-Match means any representation (section 13.1.2).
    """
    if not text or len(text) > MAX_VALIDATOR or text == "*" or not _SENDABLE.fullmatch(text):
        return ""
    return text
