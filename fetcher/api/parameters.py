"""Query parameters: every view declares its own, and what was not declared is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from fetcher.api.errors import bad_parameter
from fetcher.api.pagination import read_limit
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import Url, parse_url
from fetcher.models import ERROR_KINDS, ResultStatus, RunState
from fetcher.shown import shown_text
from fetcher.sources.entry import redacted

_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")
_TRUE = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter.

    ``parse`` turns its text into a value and raises ValueError with what would be right, worded to follow the name.
    A ``required`` one must be given, a ``repeated`` one may come several times and is handed to ``parse`` as a list.
    """

    name: str
    parse: Callable[[Any], Any]
    required: bool = False
    repeated: bool = False


def read_parameters(query: QueryDict, declared: Sequence[Parameter]) -> dict[str, Any]:
    """Return the values of what was given, by name. Raises Problem (400) naming the parameter at fault."""
    known = {parameter.name for parameter in declared}
    for name in query:
        if name not in known:
            there_is = f"there are: {', '.join(sorted(known))}" if known else "there are none here"
            raise bad_parameter(name[:100], f"is not a parameter of this address; {there_is}")
    return {
        parameter.name: _read(query, parameter)
        for parameter in declared
        if parameter.name in query or parameter.required
    }


def _read(query: QueryDict, parameter: Parameter) -> Any:
    given = query.getlist(parameter.name)
    if not given:
        raise bad_parameter(parameter.name, "is missing")
    if len(given) > 1 and not parameter.repeated:
        raise bad_parameter(parameter.name, f"is given {len(given)} times; give it once")
    try:
        return parameter.parse(given if parameter.repeated else given[0])
    except ValueError as exc:
        raise bad_parameter(parameter.name, str(exc)) from None


def _choice(values: Iterable[str]) -> Callable[[str], str]:
    choices = tuple(values)

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text[:100]!r}")
        return text

    return parse


def _text(text: str) -> str:
    if "\x00" in text:
        raise ValueError("contains a NUL character")
    return text


def _http_status(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{2}", text):
        raise ValueError(f"must be a status code such as 404, not {text[:100]!r}")
    return int(text)


def _truth(text: str) -> bool:
    if text not in _TRUE:
        raise ValueError(f"must be 1 or 0, not {text[:100]!r}")
    return _TRUE[text]


def parse_hosts(text: str) -> tuple[str, ...]:
    """Return the politeness keys that a host means: ``a.example:8080`` itself, a bare name its ports 80 and 443.

    Raises ValueError.
    """
    host = text.lower()
    if not _HOST.fullmatch(host):
        raise ValueError(f"must be a host such as example.com or example.com:8080, not {redacted(text)!r}")
    if re.search(r":[0-9]+$", host) and not host.endswith("]"):
        return (host,)
    return f"{host}:80", f"{host}:443"


def _url(text: str) -> Url:
    try:
        return parse_url(text)
    except InvalidUrl as exc:
        raise ValueError(shown_text(str(exc))) from None


CURSOR = Parameter("cursor", _text)
LIMIT = Parameter("limit", read_limit)
STATE = Parameter("state", _choice(RunState.values))
LABEL = Parameter("label", _text)
JOB = Parameter("job", _text)
STATUS = Parameter("status", _choice(ResultStatus.values))
ERROR_KIND = Parameter("error_kind", _choice(ERROR_KINDS))
HTTP_STATUS = Parameter("http_status", _http_status)
HOST = Parameter("host", parse_hosts)
CHANGED = Parameter("changed", _truth)
URL = Parameter("url", _url, required=True)
GOOD = Parameter("good", _truth)
