"""The engine's values: plain, immutable where they travel, without behaviour worth a test of its own.

They are msgspec structs, for they are made for every URL: a frozen dataclass costs several times as much. ``gc=False``
where nothing inside could lead back to it: the cycle collector need not look at it.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum

import msgspec

from fetcher.engine.bodies import SpilledBody
from fetcher.engine.errors import ErrorKind
from fetcher.engine.references import RequestHeaders

Headers = tuple[tuple[str, str], ...]
"""An answer's headers."""


class Status(StrEnum):
    """The verdict on a target."""

    SUCCEEDED = "succeeded"
    NOT_MODIFIED = "not_modified"
    FAILED = "failed"
    SKIPPED = "skipped"


class Validators(msgspec.Struct, frozen=True, gc=False):
    """What the previous good answer gave for a conditional request (RFC 9110, section 8.8).

    They are sent to ``url`` only: an ETag means nothing at another address.
    """

    etag: str
    last_modified: str
    url: str


class Timings(msgspec.Struct, frozen=True, gc=False):
    """Seconds, each None where the phase did not happen (a kept-alive connection has no connect)."""

    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    total: float | None = None


class Redirect(msgspec.Struct, frozen=True, gc=False):
    """One hop: the answer's status, the URL that gave it, where it pointed (absolute)."""

    status: int
    url: str
    location: str


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One try of a target, its redirects included.

    ``started_at`` is seconds since the epoch, ``elapsed`` seconds on the network, ``address`` the peer as ``ip:port``.
    ``waited`` is the wait in seconds that followed, ``wait_reason`` ``backoff`` or ``retry_after``.
    """

    number: int
    started_at: float
    elapsed: float
    address: str | None = None
    http_version: str | None = None
    http_status: int | None = None
    error_kind: ErrorKind | None = None
    error_detail: str = ""
    timings: Timings = Timings()
    waited: float | None = None
    wait_reason: str | None = None


class Tried(msgspec.Struct, frozen=True, gc=False):
    """The attempts that a target had before it was put down, and when the next one is due.

    ``gone`` is how many seconds of its total deadline were gone then; ``first_epoch``, ``due_epoch`` and
    ``put_down_epoch`` are seconds since the epoch.
    """

    attempts: tuple[Attempt, ...]
    first_epoch: float
    gone: float
    due_epoch: float
    put_down_epoch: float

    def since_first(self, now: float) -> float:
        """Return the seconds of the total deadline that are gone at a moment.

        The time for which nobody had the target does not count, but for what it would have waited for anyway.
        """
        return self.gone + self._waited(now)

    def still_to_wait(self, now: float) -> float:
        """Return the seconds until the next attempt is due: no more than there were, whatever clock was set since."""
        return max(0.0, self.due_epoch - self.put_down_epoch - self._waited(now))

    def _waited(self, now: float) -> float:
        return max(0.0, min(now, self.due_epoch) - self.put_down_epoch)


class Target(msgspec.Struct, frozen=True):
    """One request to make.

    ``url`` is normalised and without fragment, ``host`` its politeness key (both from ``urls.parse_url``).
    ``retry`` opts an unsafe method into retries. ``refused`` says why a target must not be requested: then that is its
    outcome, ``internal``. ``tried`` is what became of it before, where it is taken up again. ``key`` is the caller's
    own; the engine hands it back.
    """

    url: str
    host: str
    method: str = "GET"
    headers: RequestHeaders = ()
    body: bytes | None = None
    label: str | None = None
    retry: bool = False
    validators: Validators | None = None
    refused: str = ""
    tried: Tried | None = None
    key: Hashable = None


class Outcome(msgspec.Struct, frozen=True):
    """The engine's final verdict on a target.

    ``error_detail`` says why it failed; of a success it is a remark, mostly empty. ``body`` is decoded content, None
    where there was no complete answer; one that was spilled is closed by whoever takes the outcome. ``started_at`` and
    ``finished_at`` are seconds since the epoch; ``elapsed`` is the seconds between them, waits included.
    """

    target: Target
    status: Status
    started_at: float
    finished_at: float
    elapsed: float
    final_url: str
    error_kind: ErrorKind | None = None
    error_detail: str = ""
    http_status: int | None = None
    headers: Headers = ()
    body: bytes | SpilledBody | None = None
    redirects: tuple[Redirect, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    def header(self, name: str) -> str:
        """Return the first value of a response header, or an empty string."""
        name = name.lower()
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def timings(self) -> Timings:
        """The last attempt's."""
        return self.attempts[-1].timings if self.attempts else Timings()
