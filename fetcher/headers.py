"""Request headers as they are stored: text, a reference as an object, and null where a secret is sealed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import RequestHeaders

Sealed = tuple[str | None, ...]
"""Values of the headers that are stored without one, in their order; None for one that was not known then either."""
_decoder = msgspec.json.Decoder(RequestHeaders)


def dump_headers(config: FetchConfig, headers: RequestHeaders) -> list[Any]:
    """Return headers as JSON values, without literal secrets, which ``secret_values`` returns."""
    return [
        [name, None if config.is_literal_secret(name, value) else msgspec.to_builtins(value)] for name, value in headers
    ]


def secret_values(config: FetchConfig, headers: RequestHeaders) -> Sealed:
    """Return the literal secrets of headers, which are stored sealed."""
    secrets = (value for name, value in headers if config.is_literal_secret(name, value))
    return tuple(value if isinstance(value, str) else None for value in secrets)


def load_headers(stored: Any, secrets: Iterable[str | None] = ()) -> RequestHeaders:
    """Return headers from what ``dump_headers`` gave, as values or as JSON text, with their secrets put in.

    Where one is missing there stays None, which is never sent.
    """
    if isinstance(stored, str | bytes):
        headers = _decoder.decode(stored)
    else:
        headers = msgspec.convert(stored or [], RequestHeaders)
    values = iter(secrets)
    return tuple((name, next(values, None) if value is None else value) for name, value in headers)
