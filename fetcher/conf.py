"""Django settings to values that are checked. Every name begins with ``FETCHER_``.

Each field of ``FetchConfig`` has a setting by its name (``FETCHER_CONCURRENCY = 50``; a string, as the environment
gives it, is read like the option of the same name), and so has each of ``ConnectionOptions``. The others are listed in
``Settings``, and in ``Ceilings``, whose names begin with ``FETCHER_CEILING_``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args

from django.conf import settings

from fetcher.ceilings import CEILING_PREFIX, Ceilings
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import (
    ConfigError,
    FetchConfig,
    check_count,
    check_seconds,
    operator_value,
    parse_count,
    parse_duration,
    parse_header,
    parse_size,
)
from fetcher.engine.references import RequestHeaders
from fetcher.engine.transport.options import ConnectionOptions

Access = Literal["loopback", "login"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set beside the fetch options."""

    api_access: Access = "login"
    """Who may read: ``login`` a logged-in session, ``loopback`` whoever asks from this machine."""
    loopback_hosts: frozenset[str] = frozenset()
    """Names, lower-case, under which this machine may be called beside localhost where ``api_access`` is loopback."""
    api_max_urls: int = 10_000
    """URLs in one call that starts a run."""
    api_max_bytes: int = 4 * 2**20
    """Bytes of its body."""
    write_timeout: float = 120.0
    """Seconds after which a reader of the API that takes nothing of a long answer is cut off (under ASGI)."""
    body_storage: str = "default"
    """The alias in ``STORAGES`` that keeps large bodies."""
    body_file_threshold: int = 2**20
    """Bytes; bodies above it, compressed, go to the file storage instead of the database."""
    spill_threshold: int = 2**20
    """Bytes; while it arrives, a body above it is written to a temporary file instead of being held in memory.

    A run has up to about twice ``concurrency`` such files at once, each as large as ``max_body`` allows.
    """
    spill_folder: str = ""
    """The folder of these files; empty: the system's, which ``TMPDIR`` names (``/tmp``).

    Where that is a tmpfs, which is memory, name a folder on a disk.
    """
    fanout_max_urls: int = 50
    """URLs in one call of ``fanout/``."""
    fanout_deadline: float = 15.0
    """Seconds in which ``fanout/`` answers, whatever its URLs do."""
    fanout_max_bytes: int = 32 * 2**20
    """Bytes of all bodies together that one call of ``fanout/`` takes."""
    list_environment: frozenset[str] = frozenset()
    """Environment variables that ``env:NAME`` in a list's own headers, or in a call of the API, may name.

    The operator's options and settings may name any.
    """
    page_limit: int = 1000
    """The most items that one page of a list can have."""
    keep_body: bool = True
    """Whether runs store the content of bodies; without it headers, figures and the hash are kept."""
    conditional: bool = True
    """Whether runs send known validators, to learn that nothing changed."""
    database_patience: float = 300.0
    """Seconds that a run waits for a database that is away or locked; 0: it does not wait."""
    disk_reserve: int = 64 * 2**20
    """Bytes of free disk below which no run begins or goes on; 0: nobody looks."""
    dispatcher: str = ""
    """The dotted path of what wakes the cluster's workers (``fetcher.dispatch``); empty: there is no cluster."""
    run_workers: int = 8
    """Workers of the cluster that may be on one run at once."""
    grace: float = 10.0
    """Seconds that requests in flight have to finish once a run is interrupted."""

    def __post_init__(self) -> None:
        check_seconds("grace", self.grace, zero=True)
        for name in ("api_max_urls", "api_max_bytes"):
            check_count(name, getattr(self, name), least=1)
        check_count("body_file_threshold", self.body_file_threshold, least=0)
        check_count("spill_threshold", self.spill_threshold, least=0)
        check_count("fanout_max_urls", self.fanout_max_urls, least=1)
        check_seconds("write_timeout", self.write_timeout, zero=False)
        check_seconds("fanout_deadline", self.fanout_deadline, zero=False)
        check_count("fanout_max_bytes", self.fanout_max_bytes, least=1)
        check_count("run_workers", self.run_workers, least=1)
        check_count("page_limit", self.page_limit, least=1)
        check_seconds("database_patience", self.database_patience, zero=True)
        check_count("disk_reserve", self.disk_reserve, least=0)
        for name in ("keep_body", "conditional"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(name, f"must be true or false, not {getattr(self, name)!r}")


T = TypeVar("T", FetchConfig, Settings, ConnectionOptions, Ceilings)
_PREFIX = "FETCHER_"


def _list(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


def _networks(name: str, text: str) -> tuple[AllowedNetwork, ...]:
    try:
        return tuple(AllowedNetwork.parse(part) for part in _list(text))
    except ValueError as exc:
        raise ConfigError(name, str(exc)) from None


def _headers(name: str, text: str) -> RequestHeaders:
    return tuple(parse_header(name, line) for line in text.splitlines() if line.strip())


def _operator_headers(value: Any) -> RequestHeaders:
    return tuple((header, operator_value(header, text)) for header, text in read_pairs(value))


def read_pairs(value: Any) -> tuple[tuple[str, str], ...]:
    """Read an object, or a list of pairs, as headers whose values are text and nothing else. Raises ConfigError."""
    try:
        return tuple(
            (str(header), str(text)) for header, text in (value.items() if isinstance(value, Mapping) else value)
        )
    except (TypeError, ValueError):  # its text could be a secret's
        raise ConfigError("headers", "must be pairs of a header's name and its value") from None


def _names(name: str, text: str) -> frozenset[str]:
    return frozenset(part.lower() for part in _list(text))


def _text(name: str, text: str) -> str:
    return text


def _access(name: str, text: str) -> str:
    if text not in get_args(Access):
        raise ConfigError(name, f"must be one of {', '.join(get_args(Access))}, not {text!r}")
    return text


def _yes_or_no(name: str, text: str) -> bool:
    if (word := text.strip().lower()) not in _WORDS:
        raise ConfigError(name, f"must be true or false, not {text!r}")
    return _WORDS[word]


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_READERS: dict[str, Callable[[str, str], Any]] = {
    "concurrency": parse_count,
    "per_host": parse_count,
    "host_delay": parse_duration,
    "max_attempts": parse_count,
    "connect_timeout": parse_duration,
    "read_timeout": parse_duration,
    "deadline": parse_duration,
    "total_deadline": parse_duration,
    "host_failures": parse_count,
    "max_body": parse_size,
    "max_redirects": parse_count,
    "split_hosts": parse_count,
    "user_agent": _text,
    "headers": _headers,
    "secret_headers": _names,
    "secret_parameters": _names,
    "guarded_headers": _names,
    "headers_hosts": lambda _, text: tuple(_list(text)),
    "allowed_networks": _networks,
    "backoff_base": parse_duration,
    "backoff_max": parse_duration,
    "max_retry_after": parse_duration,
    "look_ahead": parse_count,
    "api_access": _access,
    "api_max_urls": parse_count,
    "api_max_bytes": parse_size,
    "write_timeout": parse_duration,
    "body_storage": _text,
    "body_file_threshold": parse_size,
    "spill_threshold": parse_size,
    "spill_folder": _text,
    "fanout_max_urls": parse_count,
    "fanout_deadline": parse_duration,
    "fanout_max_bytes": parse_size,
    "list_environment": lambda _, text: frozenset(_list(text)),
    "loopback_hosts": lambda _, text: frozenset(_list(text.lower())),
    "page_limit": parse_count,
    "dispatcher": _text,
    "run_workers": parse_count,
    "grace": parse_duration,
    "keep_body": _yes_or_no,
    "conditional": _yes_or_no,
    "database_patience": parse_duration,
    "disk_reserve": parse_size,
    "transport": lambda _, text: text.strip().lower(),
    "http2": _yes_or_no,
    "proxy": _text,
    "ca_file": _text,
    "client_cert": _text,
    "client_key": _text,
}


_LISTS = frozenset({
    "allowed_networks", "secret_headers", "secret_parameters", "guarded_headers", "headers_hosts", "list_environment",
    "loopback_hosts",
})  # fmt: skip
_TEXTS = _LISTS | {
    "user_agent", "api_access", "body_storage", "spill_folder", "dispatcher", "transport", "proxy", "ca_file",
    "client_cert", "client_key",
}  # fmt: skip
"""What has no other form than text, once lists are joined."""


def read_value(name: str, value: Any) -> Any:
    """Read one value as the option or setting ``name`` would: a string is parsed, anything else passed on.

    Only for what the operator wrote: a header's value may be ``env:NAME``. Raises ConfigError.
    """
    if name in _LISTS and isinstance(value, list | tuple | set | frozenset):
        value = " ".join(map(str, value))
    if isinstance(value, str):
        return _READERS[name](name, value)
    if name == "headers":
        return _operator_headers(value)
    if name in _TEXTS:
        raise ConfigError(name, f"must be text, not {value!r}")
    return value


def setting_names() -> frozenset[str]:
    """Return the names of all settings."""
    names = {
        f"{_PREFIX}{field.name.upper()}"
        for kind in (FetchConfig, Settings, ConnectionOptions)
        for field in fields(kind)
    }
    return frozenset(names | {f"{CEILING_PREFIX}{field.name.upper()}" for field in fields(Ceilings)})


def _from_settings(cls: type[T], prefix: str = _PREFIX) -> dict[str, Any]:
    found = {}
    try:
        for field in fields(cls):
            setting = f"{prefix}{field.name.upper()}"
            if hasattr(settings, setting):
                found[field.name] = read_value(field.name, getattr(settings, setting))
        cls(**found)  # here, so that a mistake is known to be a setting's and not an option's
    except ConfigError as exc:
        raise ConfigError(exc.name, f"{prefix}{exc.name.upper()} {exc}") from None
    return found


def fetch_config(overrides: Mapping[str, Any] | None = None) -> FetchConfig:
    """Return the defaults from the settings, with ``overrides`` by field name on top. Raises ConfigError."""
    return FetchConfig(**{**_from_settings(FetchConfig), **(overrides or {})})


def callers_config() -> FetchConfig:
    """Return the defaults of a run whose URLs a caller of the API names. Raises ConfigError.

    The operator's secret headers go to the hosts that the operator named (``FETCHER_HEADERS_HOSTS``), and to no other.
    """
    config = fetch_config()
    secret = frozenset(name.lower() for name, value in config.headers if config.is_secret(name, value))
    return replace(config, guarded_headers=config.guarded_headers | secret)


def fetcher_settings() -> Settings:
    """Return the settings beside the fetch options. Raises ConfigError."""
    return Settings(**_from_settings(Settings))


def connection_options() -> ConnectionOptions:
    """Return how connections are made. Raises ConfigError."""
    return ConnectionOptions(**_from_settings(ConnectionOptions))


def ceilings() -> Ceilings:
    """Return the bounds for callers of the API. Raises ConfigError."""
    return Ceilings(**_from_settings(Ceilings, CEILING_PREFIX))
