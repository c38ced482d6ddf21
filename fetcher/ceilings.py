"""The most that callers of the API may ask of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fetcher.engine.config import FetchConfig, check_count, check_most

CEILING_PREFIX = "FETCHER_CEILING_"
"""The beginning of these settings' names."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that a caller of the API may ask of a run: ``FETCHERCEILING_PREFIX_`` and the option's name.

    What the operator's own setting of the option allows is always allowed. The command line and the jobs that it saves
    are the operator's: to them only the bounds of FetchConfig apply. ``host_failures`` has none: 0 means never.
    """

    concurrency: int = 500
    per_host: int = 32
    host_delay: float = 60.0
    max_attempts: int = 10
    connect_timeout: float = 60.0
    read_timeout: float = 300.0
    deadline: float = 600.0
    total_deadline: float = 3600.0
    max_redirects: int = 30
    max_body: int = 100 * 2**20
    split_hosts: int = 8

    def __post_init__(self) -> None:
        check_count("split_hosts", self.split_hosts, least=1)
        FetchConfig(**{field.name: getattr(self, field.name) for field in fields(self) if field.name != "split_hosts"})

    def check(self, asked: Mapping[str, Any], base: FetchConfig) -> None:
        """Refuse options, checked by themselves, that are above their ceilings; ``base`` is as the settings have it.

        Raises ConfigError.
        """
        for field in fields(self):
            if field.name in asked:
                most = max(getattr(self, field.name), getattr(base, field.name, 1))
                more = f" (the operator can raise this bound: {CEILING_PREFIX}{field.name.upper()})"
                check_most(field.name, asked[field.name], most, more)
