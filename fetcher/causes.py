"""Why results failed, as a person names it: ``dns``, ``http_status``, ``http_status:429``, ``http_status:5xx``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from fetcher.engine.errors import ErrorKind

_CODE = re.compile(r"([4-9])([0-9]{2}|xx)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cause:
    """A kind of error; for http_status also the codes that count, empty where all do."""

    kind: ErrorKind
    codes: range = range(0)

    def __str__(self) -> str:
        if not self.codes:
            return self.kind.value
        first = self.codes.start
        return f"{self.kind}:{first if len(self.codes) == 1 else f'{first // 100}xx'}"

    @property
    def condition(self) -> Q:
        """Which results failed by it."""
        if not self.codes:
            return Q(error_kind=self.kind.value)
        return Q(error_kind=self.kind.value, http_status__gte=self.codes.start, http_status__lt=self.codes.stop)


def parse_causes(text: str) -> tuple[Cause, ...]:
    """Read causes separated by commas. Raises ValueError that says which there are."""
    return tuple(dict.fromkeys(_cause(part.strip()) for part in text.split(",")))


def any_of(causes: Iterable[Cause]) -> Q:
    """Return the filter of results that failed by one of the causes; without causes, of all that failed."""
    found = Q()
    for cause in causes:
        found |= cause.condition
    return found or Q(error_kind__isnull=False)


def _cause(text: str) -> Cause:
    name, colon, code = text.partition(":")
    try:
        kind = ErrorKind(name.lower())
    except ValueError:
        raise ValueError(f"must be one of {', '.join(ErrorKind)}, not {name[:100]!r}") from None
    if not colon:
        return Cause(kind)
    if kind is not ErrorKind.HTTP_STATUS:
        raise ValueError(f"only http_status can be narrowed, as in http_status:429; write {kind} alone")
    match = _CODE.fullmatch(code)
    if match is None:
        raise ValueError(f"must name a failed answer, as in http_status:429 or http_status:5xx, not {code[:100]!r}")
    if match[2].isdigit():
        return Cause(kind, range(int(code), int(code) + 1))
    return Cause(kind, range(int(match[1]) * 100, int(match[1]) * 100 + 100))
