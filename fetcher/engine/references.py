"""Values of request headers: text, or a reference to the environment.

A reference is a type of its own. Text that looks like one (``env:NAME``) is sent as it stands: only what reads the
operator's options and settings turns such text into an ``EnvReference``, with ``parse_reference``.
"""

from __future__ import annotations

import re

import msgspec

_WRITTEN = re.compile(r"(env|basic-env):(.*)", re.DOTALL)


class EnvReference(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """The environment variable whose value is sent: looked up for each request and stored nowhere.

    With ``basic`` the variable holds ``user:password``, sent as Basic authentication (RFC 7617, in UTF-8). As JSON it
    is an object (``{"env": "NAME"}``), which no text can be taken for.
    """

    variable: str = msgspec.field(name="env")
    basic: bool = False

    def __str__(self) -> str:
        """Return the reference as the operator writes it."""
        return f"{'basic-env' if self.basic else 'env'}:{self.variable}"


HeaderValue = str | EnvReference | None
"""What a request header has: text to send, a reference, or None for a secret that is not stored (any more)."""
RequestHeaders = tuple[tuple[str, HeaderValue], ...]


def parse_reference(text: str) -> EnvReference | None:
    """Return the reference that an operator means by ``env:NAME`` or ``basic-env:NAME``, None for any other text.

    Call it for text that the operator wrote, and never for text from a list, a caller, a server or the database.
    """
    written = _WRITTEN.fullmatch(text)
    return None if written is None else EnvReference(written[2], basic=written[1] == "basic-env")
