"""What can be asked of a run beside how it is fetched: what is sent by default, and what is saved."""

from __future__ import annotations

from dataclasses import dataclass

from fetcher.engine.config import ConfigError, check_count
from fetcher.extraction import parse_extract

MAX_DATA = 64 * 2**10
"""Bytes; the body is stored with every target that it is sent to."""
MAX_SPLIT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """A run's options beside its FetchConfig. Raises ConfigError for what cannot be used.

    ``method`` and ``data`` are for targets that do not say otherwise. ``extract`` is a JMESPath expression whose value
    is saved beside each body. Without ``keep_body`` a body's figures and hash are saved, not its content. With
    ``conditional`` known validators are sent. ``split_hosts`` lanes share the targets of each host, so that as many
    processes may ask it at once.
    """

    method: str | None = None
    data: bytes | None = None
    extract: str | None = None
    keep_body: bool = True
    conditional: bool = True
    split_hosts: int = 1

    def __post_init__(self) -> None:
        check_count("split_hosts", self.split_hosts, least=1, most=MAX_SPLIT)
        if self.data is not None and len(self.data) > MAX_DATA:
            raise ConfigError("data", f"is longer than {MAX_DATA} bytes; give such bodies in a list of JSON lines")
        if self.data is not None and self.method in ("HEAD", "TRACE"):
            raise ConfigError("data", f"cannot be sent: a {self.method} request has no body (--method)")
        if self.extract is not None:
            try:
                parse_extract(self.extract)
            except ValueError as exc:
                raise ConfigError("extract", str(exc)) from None
