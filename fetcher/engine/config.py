"""Everything that can be set about fetching, in one frozen value that is checked when it is made.

Examples with their effects::

    FetchConfig()                           100 requests at once, at most 8 to one host, 4 attempts each
    FetchConfig(max_attempts=1)             no retries: the first attempt is the only one
    FetchConfig(host_delay=1)               at most one request a second to each host, whatever per_host says
    FetchConfig(max_redirects=0)            a 3xx answer is the result
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, fields

from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.durations import read_duration
from fetcher.engine.named_hosts import check_pattern, is_named
from fetcher.engine.references import EnvReference, HeaderValue, RequestHeaders, parse_reference
from fetcher.engine.sensitive import secret_headers
from fetcher.engine.urls import Url

MAX_SECONDS = 7 * 86_400
"""Seconds; no wait or timeout may be longer. libcurl counts milliseconds in 31 bits, which end after 24 days."""
MAX_HEADERS = 64 * 2**10
"""Characters of the headers that are given together, names and values."""
MAX_USER_AGENT = 4 * 2**10
_COUNTS = {
    "concurrency": (1, 10_000), "per_host": (1, 10_000), "max_attempts": (1, 1_000), "look_ahead": (1, 1_000),
    "max_body": (1, 2**40), "host_failures": (0, 10**9), "max_redirects": (0, 1_000),
}  # fmt: skip
"""The least and the most of each count: beyond these a value is a slip, or overflows somewhere."""

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9,
          "k": 2**10, "m": 2**20, "g": 2**30}  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5, obs-text included
_FRAMING = frozenset({
    "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ConfigError(ValueError):
    """A value that cannot be used. ``name`` is the field of FetchConfig, the text says what would be right."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """How to fetch. Raises ConfigError for a value out of range.

    Seconds may be fractions. Where a limit counts attempts, the first is included: 4 attempts are the first and at
    most 3 retries.
    """

    concurrency: int = 100
    """Requests in flight at once, over all hosts."""
    per_host: int = 8
    """Requests in flight at once to one host."""
    host_delay: float = 0.0
    """Seconds between the starts of two requests to one host."""
    max_attempts: int = 4
    """Attempts for each target, the first included."""
    connect_timeout: float = 10.0
    """Seconds for name look-up, TCP and TLS together."""
    read_timeout: float = 30.0
    """Seconds without any progress while sending or receiving."""
    deadline: float = 60.0
    """Seconds on the network for one attempt as a whole, its redirects included."""
    total_deadline: float = 600.0
    """Seconds for all attempts of a target together, waits included, counted from its first."""
    host_failures: int = 20
    """After so many failures in a row without any answer the rest of a host is skipped; 0 never gives up."""
    max_body: int = 10 * 2**20
    """Bytes, counted after decoding."""
    max_redirects: int = 10
    """Hops for each attempt; with 0 a 3xx answer is the result."""
    user_agent: str = "trawl/0.1"
    """Sent unless a header says otherwise."""
    headers: RequestHeaders = field(default=(), repr=False)
    """Sent with every target that does not say otherwise. A value may be an ``EnvReference``; text is sent as it is."""
    secret_headers: frozenset[str] = frozenset()
    """Names of headers that are secret beside the usual ones (``sensitive.SECRET_HEADERS``); ``!name`` is not.

    ``*`` in a name is any text. Secret values are never shown, and are dropped when a redirect leaves the origin.
    """
    secret_parameters: frozenset[str] = frozenset()
    """The same for query parameters, whose values are masked in what people read."""
    guarded_headers: frozenset[str] = frozenset()
    """Lower-case names of ``headers`` that go to ``headers_hosts`` only.

    In a run that a caller of the API asked for they are the operator's secrets; the caller names the URLs.
    """
    headers_hosts: tuple[str, ...] = ()
    """Hosts that ``guarded_headers`` may go to, see ``named_hosts``."""
    allowed_networks: tuple[AllowedNetwork, ...] = ()
    """Networks (and single endpoints) that may be connected to although they are not public."""
    backoff_base: float = 0.5
    """Seconds; before retry n the wait is drawn between 0 and base times 2 to the power n - 1."""
    backoff_max: float = 60.0
    """Seconds; no backoff is longer."""
    max_retry_after: float = 300.0
    """Seconds; a Retry-After that asks for more is cut to this."""
    look_ahead: int = 10
    """Targets held in memory, as a multiple of ``concurrency``."""

    def __post_init__(self) -> None:
        for name, (least, most) in _COUNTS.items():
            check_count(name, getattr(self, name), least=least, most=most)
        for name in ("host_delay", "backoff_base", "backoff_max", "max_retry_after"):
            check_seconds(name, getattr(self, name), zero=True)
        for name in ("connect_timeout", "read_timeout", "deadline", "total_deadline"):
            check_seconds(name, getattr(self, name), zero=False)
        if not _VALUE.fullmatch(self.user_agent):
            raise ConfigError("user_agent", "has a line break or another character that cannot be sent")
        if len(self.user_agent) > MAX_USER_AGENT:
            raise ConfigError("user_agent", f"is longer than {MAX_USER_AGENT} characters")
        check_header_size("headers", self.headers)
        for header, value in self.headers:
            check_header(header, value)
        for pattern in self.headers_hosts:
            try:
                check_pattern(pattern)
            except ValueError as exc:
                raise ConfigError("headers_hosts", str(exc)) from None

    def headers_for(self, url: Url) -> RequestHeaders:
        """Return those of ``headers`` that may go to a URL."""
        if not self.guarded_headers or is_named(url, self.headers_hosts):
            return self.headers
        return tuple(pair for pair in self.headers if pair[0].lower() not in self.guarded_headers)

    def is_secret(self, name: str, value: HeaderValue) -> bool:
        """Whether a header's value must not be shown or follow a redirect elsewhere."""
        return not isinstance(value, str) or name in secret_headers(self.secret_headers)

    def stays_at_its_origin(self, name: str, value: HeaderValue) -> bool:
        """Whether a header must not follow a redirect to another origin."""
        return self.is_secret(name, value) or name.lower() in self.guarded_headers

    def is_literal_secret(self, name: str, value: HeaderValue) -> bool:
        """Whether a header's value is a secret itself, and not the name of where it is."""
        return not isinstance(value, EnvReference) and self.is_secret(name, value)


CONFIG_FIELDS = tuple(field.name for field in fields(FetchConfig))


def check_count(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Refuse what is not a whole number from ``least`` to ``most``. Raises ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(name, f"must be a whole number of at least {least}, not {quote_value(value)}")
    if most is not None:
        check_most(name, value, most)


def check_seconds(name: str, value: object, *, zero: bool) -> None:
    """Refuse what is not a number of seconds up to MAX_SECONDS; ``zero`` says whether 0 is one. Raises ConfigError."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    # An integer may be too large for a float: it is compared, never converted.
    if number != number or number in (math.inf, -math.inf) or number < 0 or (number == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise ConfigError(name, f"must be a number of seconds, {least}, not {quote_value(value)}")
    check_most(name, number, MAX_SECONDS)


def check_most(name: str, value: float, most: float, more: str = "") -> None:
    """Refuse a number above ``most``; ``more`` ends the sentence. Raises ConfigError."""
    if value > most:
        raise ConfigError(name, f"must be at most {quote_value(most)}, not {quote_value(value)}{more}")


def check_header_size(name: str, headers: Iterable[tuple[str, HeaderValue]]) -> None:
    """Refuse headers that are longer than MAX_HEADERS together. Raises ConfigError."""
    if sum(len(header) + len(str(value or "")) for header, value in headers) > MAX_HEADERS:
        raise ConfigError(name, f"are longer than {MAX_HEADERS} characters together")


def quote_value(value: object) -> str:
    """Return a value as a message quotes it, shortened; a whole number may have too many digits for ``repr``."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**15:
        return str(int(value))
    try:
        text = repr(value)
    except ValueError:  # Python converts no more than some 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}…"


def parse_duration(name: str, text: str) -> float:
    """Read seconds: ``30``, ``500ms``, ``5m``, ``1h30m``. Raises ConfigError."""
    try:
        return read_duration(text)
    except ValueError as exc:
        raise ConfigError(name, str(exc)) from None


def parse_count(name: str, text: str) -> int:
    """Read a whole number. Raises ConfigError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
        raise ConfigError(name, f"must be a whole number, not {text!r}")
    return int(text.strip())  # which takes off more than int does


def parse_size(name: str, text: str) -> int:
    """Read bytes: ``4096``, ``512KiB``, ``10MB`` (powers of ten), ``2M`` (powers of two). Raises ConfigError."""
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigError(name, f"must be a size such as 512KiB, 10MiB or 4096, not {text!r}")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_header(name: str, line: str) -> tuple[str, HeaderValue]:
    """Read ``Name: value`` as the operator writes it, where the value may be ``env:NAME``. Raises ConfigError."""
    header, value = split_header(name, line)
    return header, operator_value(header, value)


def split_header(name: str, line: str) -> tuple[str, str]:
    """Read ``Name: value``, whose value is text and nothing else. Raises ConfigError."""
    header, colon, value = line.partition(":")
    if not colon:
        # The line is not repeated: what was meant as a value may be a secret.
        raise ConfigError(name, "must look like 'Name: value'; there is no colon")
    header, value = header.strip(" \t"), value.strip(" \t")
    check_header(header, value)
    return header, value


def operator_value(header: str, text: str) -> HeaderValue:
    """Return what the operator means by a header's value: a reference, or the text. Raises ConfigError."""
    reference = parse_reference(text)
    if reference is None:
        return text
    if not reference.variable:
        raise ConfigError("headers", f"the value of {header} names no environment variable after '{text}'")
    return reference


def permitted_value(header: str, text: str, variables: Container[str]) -> HeaderValue:
    """Return what a header's value in a list or a call means: a reference to one of these variables, or the text.

    A reference to any other variable is refused, because who writes a list could have any variable sent anywhere, and
    sent as text it would not be what they mean. Raises ConfigError.
    """
    value = operator_value(header, text)
    if isinstance(value, EnvReference) and value.variable not in variables:
        raise ConfigError(
            "headers",
            f"the value of {header} asks for the environment variable {value.variable[:100]}, which a list or a call "
            "may use only where FETCHER_LIST_ENVIRONMENT names it",
        )
    return value


def check_header(header: str, value: HeaderValue) -> None:
    """Refuse what could not be sent, or would be sent as something else. Raises ConfigError, never naming the value."""
    if not _TOKEN.fullmatch(header):
        raise ConfigError("headers", f"{header[:100]!r} is not a header name (letters, digits and hyphens)")
    if header.lower() in _FRAMING:
        raise ConfigError("headers", f"the header {header} is set by Trawl itself and cannot be given")
    if isinstance(value, str) and not _VALUE.fullmatch(value):
        raise ConfigError("headers", f"the value of {header} has a line break or another character that cannot be sent")


def resolve_header(header: str, value: HeaderValue) -> str:
    """Return the value to send; what a reference names is looked up now. Raises ConfigError where it is not set."""
    if isinstance(value, str):
        return value
    if value is None:
        raise ConfigError("headers", f"the value of {header} was secret and is not stored any more; give it again")
    found = os.environ.get(value.variable)
    if found is None:
        raise ConfigError(
            "headers", f"the header {header} needs the environment variable {value.variable}, which is not set"
        )
    if value.basic:
        return _basic(value.variable, found)
    if not _VALUE.fullmatch(found):
        raise ConfigError("headers", f"the environment variable {value.variable} has a character that cannot be sent")
    return found


def _basic(variable: str, credentials: str) -> str:
    if ":" not in credentials:
        raise ConfigError("headers", f"the environment variable {variable} must hold user:password; it has no colon")
    if _CONTROL.search(credentials):
        raise ConfigError("headers", f"the environment variable {variable} has a line break or control character")
    return f"Basic {base64.b64encode(credentials.encode(errors='surrogateescape')).decode()}"


def check_environment(headers: RequestHeaders) -> None:
    """Look up every reference once, so that a missing one is an error before the start. Raises ConfigError."""
    for header, value in headers:
        resolve_header(header, value)
