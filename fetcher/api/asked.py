"""What a caller asks for in the JSON body of ``POST runs/``, read and checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from fetcher.api.errors import Problem
from fetcher.conf import callers_config, ceilings, fetcher_settings, read_pairs, read_value
from fetcher.engine.config import ConfigError, FetchConfig, check_header, permitted_value, split_header
from fetcher.engine.references import RequestHeaders
from fetcher.engine.request_headers import effective_headers
from fetcher.options import RunOptions
from fetcher.sources import Entry
from fetcher.sources.fields import FieldError, read_method
from fetcher.sources.jsonl import read_entry
from fetcher.texts import check_label, did_you_mean

SOURCE = "request"
"""What the list of a run is called that came this way."""
CONFIG_OPTIONS = (
    "concurrency", "per_host", "host_delay", "max_attempts", "connect_timeout", "read_timeout", "deadline",
    "total_deadline", "host_failures", "max_redirects", "user_agent", "max_body", "headers",
)  # fmt: skip
"""Fields of FetchConfig that may be given. What is allowed to be connected to is the operator's to say."""
RUN_OPTIONS = ("method", "data", "extract", "keep_body", "conditional", "split_hosts")
_PLACE = re.compile(r" - at `\$\.([a-z]+)")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_RIGHT = {
    "urls": "must be a list of URLs, or of objects with url, method, headers, body, label, retry",
    "label": "must be text",
    "options": 'must be an object such as {"per_host": 2}',
}


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    urls: list[msgspec.Raw]
    label: str | None = None
    options: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that somebody asks for; ``entries`` is its list, those that are no targets included."""

    entries: list[Entry]
    label: str
    config: FetchConfig
    options: RunOptions


def bad_member(name: str, detail: str) -> Problem:
    """Return the Problem (400) of a member of the body (``options/deadline``); ``detail`` begins after its name."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name.rpartition('/')[2]} {detail}", pointer=f"#/{name}")


def read_asked(body: bytes) -> Asked:
    """Read the body. Raises Problem (400, 413) with a pointer to the member at fault."""
    found = _decoded(body)
    most = fetcher_settings().api_max_urls
    if not found.urls:
        raise bad_member("urls", "is empty: there is nothing to fetch")
    if len(found.urls) > most:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"urls has {len(found.urls)} entries; at most {most} can be given in one call (FETCHER_API_MAX_URLS). Make "
            "several calls, or hand a longer list over with: manage.py fetch_urls --file PATH --queue",
            pointer="#/urls",
        )
    try:
        label = check_label(found.label or "")
    except ValueError as exc:
        raise bad_member("label", str(exc)) from None
    config, options = read_options(found.options or {})
    return Asked(list(_entries(found.urls)), label, config, options)


def _decoded(body: bytes) -> _Body:
    try:
        return _decoder.decode(body)
    except (msgspec.ValidationError, UnicodeError, RecursionError) as exc:
        text = str(exc)
        if match := _UNKNOWN.match(text):
            more = "; a saved job is run by POST jobs/{name}/runs/" if match[1] == "job" else ""
            known = ", ".join(_Body.__struct_fields__)
            raise bad_member(match[1][:100], f"is no member of the body; there are {known}{more}") from None
        if "missing required field" in text:
            raise bad_member("urls", "is missing") from None
        if match := _PLACE.search(text):
            raise bad_member(match[1], _RIGHT[match[1]]) from None
        detail = 'The body must be an object such as {"urls": ["https://example.org/"]}.'
        raise Problem(HTTPStatus.BAD_REQUEST, detail, pointer="#") from None
    except msgspec.DecodeError as exc:
        reason = str(exc).removeprefix("JSON is malformed: ")[:200]
        raise Problem(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {reason}.", pointer="#") from None


def _entries(urls: list[msgspec.Raw]) -> Iterator[Entry]:
    for number, raw in enumerate(urls, 1):
        yield read_entry(SOURCE, number, bytes(raw))


def read_options(given: Mapping[str, Any]) -> tuple[FetchConfig, RunOptions]:
    """Return what the options ask for, on top of the settings. Raises Problem (400)."""
    known = (*CONFIG_OPTIONS, *RUN_OPTIONS)
    for name in given:
        if name == "allowed_networks":
            raise bad_member("options/allowed_networks", "is the operator's to say: FETCHER_ALLOWED_NETWORKS")
        if name not in known:
            raise bad_member(
                f"options/{name[:100]}", f"is no option; there are {', '.join(known)}{did_you_mean(name, known)}"
            )
    settings, base, bounds = fetcher_settings(), callers_config(), ceilings()
    defaults = RunOptions(keep_body=settings.keep_body, conditional=settings.conditional)
    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        config = {
            name: read_value(name, wanted[name]) for name in CONFIG_OPTIONS if name in wanted.keys() - {"headers"}
        }
        if "headers" in wanted:
            given_headers = _headers(wanted["headers"])
            own = {name.lower() for name, _ in given_headers}  # the caller's to send anywhere
            config["headers"] = effective_headers(base.headers, given_headers)
            config["guarded_headers"] = base.guarded_headers - own
        options = {name: _READERS[name](name, wanted[name]) for name in RUN_OPTIONS if name in wanted}
        made = dataclasses.replace(base, **config), dataclasses.replace(defaults, **options)
        bounds.check({**config, **options}, base)
    except ConfigError as exc:
        raise bad_member(f"options/{exc.name}", str(exc)) from None
    return made


def _headers(value: Any) -> RequestHeaders:
    """Read headers: lines, an object or pairs. Raises ConfigError."""
    lines = value.splitlines() if isinstance(value, str) else None
    pairs = read_pairs(value) if lines is None else [split_header("headers", line) for line in lines if line.strip()]
    for name, text in pairs:
        check_header(name, text)
    variables = fetcher_settings().list_environment
    return tuple((name, permitted_value(name, text, variables)) for name, text in pairs)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(name, f"must be text, not {value!r:.100}")
    return value


def _method(name: str, value: Any) -> str:
    try:
        return read_method(_text(name, value))
    except FieldError as exc:
        raise ConfigError(name, str(exc).removeprefix("method: ")) from None


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(name, f"must be true or false, not {value!r:.100}")
    return value


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "method": _method,
    "data": lambda name, value: _text(name, value).encode(),
    "extract": _text,
    "keep_body": _truth,
    "conditional": _truth,
    "split_hosts": lambda name, value: value,
}
