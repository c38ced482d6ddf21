"""The demo's targets and what must become of each: data, and the comparison with what was saved.

The origin listens twice. A Retry-After pauses every request to its host, and a host is a name and a port, so the paths
that ask for a pause live on a listener of their own: the other targets flow on, which is what the demo is to show.
Paths are unique over both listeners.

``FIRST`` is fetched by one run, ``AGAIN`` by a second one that knows the validators of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any
from urllib.parse import urlsplit

LISTENERS = 2
"""Ports of the demo's origin: the first for nearly everything, the second for what asks for a pause."""
PAUSING = 1
"""The listener whose paths answer with Retry-After."""

DEMO_OPTIONS: dict[str, Any] = {
    "max_attempts": 3,
    "connect_timeout": 1.0,
    "read_timeout": 1.0,
    "deadline": 1.5,
    "total_deadline": 20.0,
    "max_body": 64 * 2**10,
    "max_redirects": 5,
    "backoff_base": 0.2,
    "backoff_max": 0.5,
}
"""What the demo sets, by FetchConfig's names: small bounds, so that every failure comes within seconds."""

_ALL = DEMO_OPTIONS["max_attempts"]
"""Attempts of what fails every time and may be tried again."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One target and its only right result. ``http_status`` is None where no head of an answer came."""

    path: str
    note: str
    status: str = "succeeded"
    error_kind: str | None = None
    http_status: int | None = 200
    attempts: int = 1
    listener: int = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A result that is not as scripted. ``field`` is ``result`` where it is missing, unknown or there twice."""

    path: str
    field: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.path}: {self.field} should be {self.expected!r}, is {self.found!r}"


def _each(count: int, path: str, note: str, **expected: Any) -> list[Scenario]:
    return [Scenario(path.format(number), note, **expected) for number in range(1, count + 1)]


def _failed(kind: str, http_status: int | None, attempts: int) -> dict[str, Any]:
    return {"status": "failed", "error_kind": kind, "http_status": http_status, "attempts": attempts}


_REFUSED = "http%3A%2F%2F169.254.169.254%2Flatest%2F"

_GROUPS: tuple[list[Scenario], ...] = (
    # What takes longest comes first: a client that starts it last waits for it alone.
    _each(4, "/hang/{}", "never answers", **_failed("timeout", None, _ALL)),
    _each(1, "/drip/{}?bytes=1000&ms=100", "too slow for the deadline", **_failed("timeout", 200, _ALL)),
    _each(8, "/retry-after/{}?seconds=1", "429, fine after the pause", attempts=2, listener=PAUSING),
    _each(12, "/slow/{}?ms=300", "takes 300 ms"),
    _each(6, "/flaky/{}", "503 once, then fine", attempts=2),
    _each(2, "/flaky/{}?times=2", "503 twice, then fine", attempts=3),
    _each(2, "/flaky/{}?times=1000", "503 every time", **_failed("http_status", 503, _ALL)),
    _each(4, "/reset/{}", "resets the connection", **_failed("protocol", None, _ALL)),
    _each(2, "/truncated/{}", "ends in the middle of the body", **_failed("protocol", 200, _ALL)),
    _each(2, "/big/{}?bytes=1048576", "1 MiB where 64 KiB are allowed", **_failed("too_large", 200, 1)),
    _each(1, "/gzip-bomb/{}?bytes=10485760", "10 MiB in 10 KiB", **_failed("too_large", 200, 1)),
    _each(2, "/bad-gzip/{}", "says gzip and is not", **_failed("decoding", 200, 1)),
    _each(1, "/redirect-loop/{}", "redirects to itself", **_failed("too_many_redirects", 302, 1)),
    _each(
        1,
        "/redirect-to?url=" + _REFUSED + "{}",
        "redirects to a forbidden address",
        **_failed("blocked_address", None, 1),
    ),
    _each(12, "/missing/{}", "404", **_failed("http_status", 404, 1)),
    _each(10, "/redirect/3/{}", "three redirects"),
    _each(10, "/gzip/{}", "compressed"),
    _each(20, "/etag/{}", "has an ETag"),
    _each(100, "/ok/{}", "fine"),
)

FIRST: tuple[Scenario, ...] = tuple(
    scenario for scenario in chain.from_iterable(zip_longest(*_GROUPS)) if scenario is not None
)
"""The first run's targets, the kinds mixed as they are in a real list."""

AGAIN: tuple[Scenario, ...] = tuple(
    replace(scenario, note="not modified since the first run", status="not_modified", http_status=304)
    for scenario in FIRST
    if scenario.path.startswith("/etag/")
)
"""The second run's targets."""


def urls(scenarios: Sequence[Scenario], url: Callable[[str, int], str]) -> list[str]:
    """Return the targets' URLs; ``url`` makes one of a path and a listener, as ``Origin.url`` does."""
    return [url(scenario.path, scenario.listener) for scenario in scenarios]


def check(scenarios: Sequence[Scenario], results: Iterable[Mapping[str, Any]]) -> list[Mismatch]:
    """Compare results (mappings with ``url, status, error_kind, http_status, attempts``) with what was scripted.

    Returns nothing but differences: a field that is not as expected, a target without a result, a result too many.
    """
    expected = {scenario.path: scenario for scenario in scenarios}
    mismatches = []
    for result in results:
        parts = urlsplit(result["url"])
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        scenario = expected.pop(path, None)
        if scenario is None:
            mismatches.append(Mismatch(path, "result", "none, or only one", "one too many"))
            continue
        for field in ("status", "error_kind", "http_status", "attempts"):
            wanted = getattr(scenario, field)
            if result[field] != wanted:
                mismatches.append(Mismatch(path, field, wanted, result[field]))
    mismatches += [Mismatch(path, "result", "one", "none") for path in expected]
    return mismatches
