"""Which kept connections an unsafe request may go on.

A server may close a kept connection just when the next request is on its way. A safe request is then sent again. One
that may have taken effect is not (RFC 9110, section 9.2.2), so it would fail. Some servers close after each answer
without having said so. Connections of their own for all unsafe requests would cost three times the processor time, and
run out of ports at some hundred requests a second.
"""

from __future__ import annotations

import math

Place = tuple[str, int]
"""An address and a port."""

_SETTLE_SECONDS = 1.0
_MOST_ENTRIES = 8192


class KeptOpen:
    """Remembers which servers keep connections open after their answers; of others none is to be used again.

    A server has to be watched for ``settle`` seconds first. One that closes a connection sooner after an answer than
    that is not trusted any more. ``watched`` says whether connections that are not in use are watched at all. Times
    are the event loop's, a server is its scheme, host and port as text.
    """

    def __init__(self, *, watched: bool, settle: float = _SETTLE_SECONDS) -> None:
        self._watched = watched
        self._settle = settle
        self._trusted_from: dict[str, float] = {}
        self._answers: dict[Place, tuple[str, float]] = {}

    def is_trusted(self, server: str, now: float) -> bool:
        """Whether an unsafe request may go on a connection that the server kept open until now."""
        return self._watched and self._trusted_from.get(server, math.inf) <= now

    def note_answer(self, server: str, own: Place, now: float) -> None:
        """Note that an unsafe request was answered, on a connection by its own end."""
        if max(len(self._trusted_from), len(self._answers)) >= _MOST_ENTRIES:
            self._trusted_from.clear()
            self._answers.clear()
        self._trusted_from.setdefault(server, now + self._settle)
        self._answers[own] = server, now

    def note_close(self, own: Place, now: float) -> None:
        """Note that the server closed a connection which it had not announced."""
        server, answered_at = self._answers.pop(own, ("", -math.inf))
        if now - answered_at < self._settle:
            self._trusted_from[server] = math.inf
