"""The fetch options of the commands: declared once, read by the same functions as the settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher import conf
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import ConfigError, FetchConfig, parse_header

USAGE = 2
"""Exit code of a command that was called wrongly, as argparse's own."""


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
    Option("--host-delay", "S", "seconds between the starts of two requests to one host"),
    Option("--max-attempts", "N", "attempts for each URL, the first included: 1 means no retries"),
    Option("--connect-timeout", "S", "seconds for name look-up, TCP and TLS together"),
    Option("--read-timeout", "S", "seconds without a byte before an attempt is given up"),
    Option("--deadline", "S", "seconds for one attempt as a whole, redirects included"),
    Option("--total-deadline", "S", "seconds for all attempts of a URL, waits included"),
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
    group = parser.add_argument_group("fetching")
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
        type=_checked(lambda text: parse_header("headers", text)),
        default=[],
        help="send this header with every request; repeatable. A value env:NAME is read from the environment and "
        "stored nowhere; other secrets are stored encrypted until the run is over",
    )
    group.add_argument(
        "--allow-network",
        metavar="CIDR",
        action="append",
        type=_checked(AllowedNetwork.parse),
        default=[],
        help="allow a network that is not public, such as 127.0.0.1/32, 10.0.0.0/8 or 127.0.0.1:8000; repeatable. "
        "Also FETCHER_ALLOWED_NETWORKS",
    )


def config_from(options: dict[str, Any]) -> FetchConfig:
    """Return the configuration that the options ask for. Raises CommandError (usage) for a value out of range."""
    overrides = {option.field: options[option.field] for option in OPTIONS if options[option.field] is not None}
    try:
        defaults = conf.fetch_config()
    except ConfigError as exc:
        raise CommandError(str(exc)) from None
    if options["header"]:
        overrides["headers"] = (*defaults.headers, *options["header"])
    if options["allow_network"]:
        overrides["allowed_networks"] = (*defaults.allowed_networks, *options["allow_network"])
    try:
        return conf.fetch_config(overrides)
    except ConfigError as exc:
        flag = _LISTS.get(exc.name) or f"--{exc.name.replace('_', '-')}"
        raise CommandError(f"argument {flag}: {exc}", returncode=USAGE) from None


def _reader(field: str) -> Callable[[str], Any]:
    return _checked(lambda text: conf.read_value(field, text))


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Turn a value's ValueError into argparse's own complaint, which keeps the text."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return checked


def _shown(field: str, value: Any) -> str:
    if field == "max_body" and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    return f"{value:g}" if isinstance(value, float) else str(value)
