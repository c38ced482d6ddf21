"""The fetch options of the commands: declared once, read by the same functions as the settings.

None of them has a default of its own, so that what was not given can be as the settings, or another run, have it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher import conf
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import ConfigError, FetchConfig, parse_header
from fetcher.engine.durations import write_duration
from fetcher.engine.references import EnvReference, RequestHeaders
from fetcher.engine.request_headers import effective_headers
from fetcher.extraction import parse_extract
from fetcher.options import MAX_DATA, RunOptions
from fetcher.sources import SourceError
from fetcher.sources.fields import FieldError, read_method
from fetcher.sources.stream import standard_input

USAGE = 2
"""Exit code of a command that was called wrongly, as argparse's own."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True)
class Option:
    """An option that sets one field of FetchConfig."""

    flag: str
    metavar: str
    help: str

    @property
    def field(self) -> str:
        """The field of FetchConfig."""
        return self.flag.lstrip("-").replace("-", "_")


OPTIONS = (
    Option("--concurrency", "N", "requests in flight at once, over all hosts"),
    Option("--per-host", "N", "requests in flight at once to one host"),
    Option("--host-delay", "TIME", "time between the starts of two requests to one host"),
    Option("--max-attempts", "N", "attempts for each URL, the first included: 1 means no retries"),
    Option("--connect-timeout", "TIME", "time for name look-up, TCP and TLS together"),
    Option("--read-timeout", "TIME", "time without a byte before an attempt is given up"),
    Option("--deadline", "TIME", "time for one attempt as a whole, redirects included"),
    Option("--total-deadline", "TIME", "time for all attempts of a URL, waits included"),
    Option("--host-failures", "N", "after so many failures in a row without any answer the rest of a host is skipped"),
    Option("--max-redirects", "N", "redirects to follow; with 0 an answer that redirects is the result"),
    Option("--user-agent", "TEXT", "how Trawl introduces itself"),
    Option("--max-body", "BYTES", "the largest body, counted after decoding; takes 512KiB, 10MB"),
)


_LISTS = {"headers": "--header", "allowed_networks": "--allow-network"}
"""Options that add one value to a field."""


def add_fetch_options(parser: CommandParser) -> None:
    """Add the options that set fields of FetchConfig. Their defaults are shown as the settings make them."""
    try:
        defaults = conf.fetch_config()
    except ConfigError:  # reported by the system checks, with the setting's name
        defaults = FetchConfig()
    group = parser.add_argument_group(
        "fetching", "TIME is 500ms, 30s, 5m, 1h or 2d; a number without a unit is seconds."
    )
    for option in OPTIONS:
        default = _shown(option.field, getattr(defaults, option.field))
        group.add_argument(
            option.flag,
            metavar=option.metavar,
            type=_reader(option.field),
            default=None,
            help=f"{option.help} (default: {default})",
        )
    group.add_argument(
        "--header",
        metavar="'K: V'",
        action="append",
        type=checked_value(lambda text: parse_header("headers", text)),
        default=[],
        help="send this header with every request; repeatable. A value env:NAME is read from the environment and "
        "stored nowhere; other secrets are stored encrypted until the run is over",
    )
    group.add_argument(
        "--allow-network",
        metavar="CIDR",
        action="append",
        type=checked_value(AllowedNetwork.parse),
        default=[],
        help="allow a network that is not public, such as 127.0.0.1/32, 10.0.0.0/8 or 127.0.0.1:8000; repeatable. "
        "Also FETCHER_ALLOWED_NETWORKS",
    )


def add_request_options(parser: CommandParser) -> None:
    """Add the options that say what is asked and saved, which ``options_from`` reads, and ``--user-env``."""
    try:
        defaults = conf.fetcher_settings()
    except ConfigError:  # reported by the system checks
        defaults = conf.Settings()
    group = parser.add_argument_group("requests and what is kept")
    group.add_argument(
        "--method",
        type=checked_value(_method),
        help="for targets that name none themselves (default: GET, with --data POST)",
    )
    group.add_argument(
        "--data",
        metavar="TEXT|@FILE",
        help=f"a body of at most {MAX_DATA // 1024} KiB for targets that name neither a method nor a body: the text "
        "itself, @FILE as it is, or @- for standard input. Say what it is: --header 'Content-Type: application/json'",
    )
    group.add_argument(
        "--user-env",
        metavar="NAME",
        type=checked_value(_variable),
        help="send Basic authentication with the user:password in this environment variable, which is stored nowhere",
    )
    group.add_argument(
        "--extract",
        metavar="JMESPATH",
        type=checked_value(_expression),
        help="save what this expression finds in each JSON answer beside it; up to 64 KiB of JSON each",
    )
    group.add_argument(
        "--body",
        dest="keep_body",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the content of bodies; --no-body keeps headers, figures and the hash "
        f"(default: {_word(defaults.keep_body)})",
    )
    group.add_argument(
        "--conditional",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="send known validators, so that what has not changed is not sent again "
        f"(default: {_word(defaults.conditional)})",
    )


def options_from(
    options: dict[str, Any], base: RunOptions | None = None, *, stdin_is_source: bool = False
) -> RunOptions:
    """Return the run's other options; what was not given is as in ``base``, by default as the settings make it.

    Raises CommandError (usage), also for a ``--data`` file that cannot be read.
    """
    if base is None:
        base = _default_options()
    names = ("method", "extract", "keep_body", "conditional", "split_hosts")
    given = {name: options[name] for name in names if options.get(name) is not None}
    try:
        if options["data"] is not None:
            given["data"] = _data(options["data"], stdin_is_source=stdin_is_source)
        return dataclasses.replace(base, **given)
    except ConfigError as exc:
        raise CommandError(f"argument --{exc.name}: {exc}", returncode=USAGE) from None


def _default_options() -> RunOptions:
    try:
        defaults = conf.fetcher_settings()
    except ConfigError as exc:
        raise CommandError(str(exc)) from None
    return RunOptions(keep_body=defaults.keep_body, conditional=defaults.conditional)


def _data(text: str, *, stdin_is_source: bool) -> bytes:
    if not text.startswith("@"):
        return os.fsencode(text)
    path = text[1:]
    if not path:
        raise ConfigError("data", "names no file after @; write @FILE, or @- for standard input")
    if path == "-" and stdin_is_source:
        raise ConfigError("data", "standard input cannot give both the URLs and the body")
    try:
        with standard_input() if path == "-" else Path(path).open("rb") as file:
            return file.read(MAX_DATA + 1)
    except SourceError as exc:
        raise ConfigError("data", str(exc)) from None
    except OSError as exc:
        raise ConfigError("data", f"{path}: cannot be read: {(exc.strerror or str(exc)).lower()}") from None
    except ValueError:
        raise ConfigError("data", f"{path!a}: cannot be read: this is no path") from None


def _method(text: str) -> str:
    try:
        return read_method(text)
    except FieldError as exc:
        raise ValueError(str(exc).removeprefix("method: ")) from None


def _expression(text: str) -> str:
    parse_extract(text)
    return text


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        # The text is not repeated: it may be the credentials themselves.
        raise ValueError("must be the name of an environment variable that holds user:password")
    return text


def config_from(options: dict[str, Any], base: FetchConfig | None = None) -> FetchConfig:
    """Return the configuration that the options ask for, on top of ``base``, by default of the settings.

    Raises CommandError (usage) for a value out of range.
    """
    overrides = {option.field: options[option.field] for option in OPTIONS if options[option.field] is not None}
    if base is None:
        try:
            base = conf.fetch_config()
        except ConfigError as exc:
            raise CommandError(str(exc)) from None
    if headers := given_headers(options):
        overrides["headers"] = effective_headers(base.headers, headers)
    if options["allow_network"]:
        overrides["allowed_networks"] = (*base.allowed_networks, *options["allow_network"])
    try:
        return dataclasses.replace(base, **overrides)
    except ConfigError as exc:
        flag = _LISTS.get(exc.name) or f"--{exc.name.replace('_', '-')}"
        raise CommandError(f"argument {flag}: {exc}", returncode=USAGE) from None


def given_headers(options: dict[str, Any]) -> RequestHeaders:
    """Return the headers that the options give. Raises CommandError (usage)."""
    headers: RequestHeaders = tuple(options["header"])
    if variable := options.get("user_env"):
        if any(name.lower() == "authorization" for name, _ in headers):
            raise CommandError(
                "argument --user-env: cannot be used together with --header 'Authorization: …'", returncode=USAGE
            )
        headers += (("Authorization", EnvReference(variable, basic=True)),)
    return headers


def _reader(field: str) -> Callable[[str], Any]:
    return checked_value(lambda text: conf.read_value(field, text))


def checked_value(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Turn a value's ValueError into argparse's own complaint, which keeps the text."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return checked


def _word(value: bool) -> str:
    return "yes" if value else "no"


def _shown(field: str, value: Any) -> str:
    if field == "max_body" and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    return write_duration(value) if isinstance(value, float) else str(value)
