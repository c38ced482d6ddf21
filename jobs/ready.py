"""``/readyz``: whether this process can do its work now, for whoever decides where requests go.

Anybody may ask, so that it says what is wrong, not where it is: no address, no text of an error. Each part is asked in
a thread of its own, and what does not answer in time is wrong. A part that hangs keeps that one thread; whoever asks
meanwhile waits for the same answer, so that a database which is away for a day costs one thread and not one a second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from django.db import DatabaseError, connection, connections
from django.http import HttpRequest, HttpResponse, JsonResponse

from fetcher.models import Run
from jobs.queue import read_queue

log = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds in which a part must answer."""
MORE = "manage.py cluster status says more, on the machine itself"


class NotReady(Exception):
    """A part cannot be used; the text is told to anybody."""


class Part:
    """Something that can be asked; by one thread at a time, however many want to know."""

    def __init__(self, name: str, ask: Callable[[], dict[str, Any]]) -> None:
        self.name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._asked: Future[dict[str, Any]] | None = None

    async def check(self, patience: float) -> dict[str, Any]:
        """Return what there is to tell, with ``status`` ok or failed, after ``patience`` seconds at most."""
        answer = asyncio.wrap_future(self._answer())
        done, _ = await asyncio.wait([answer], timeout=patience)
        if not done:
            answer.cancel()
            return {"status": "failed", "error": f"no answer within {patience:g} s"}
        try:
            return {"status": "ok", **answer.result()}
        except NotReady as exc:
            return {"status": "failed", "error": str(exc)}

    def _answer(self) -> Future[dict[str, Any]]:
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = Future()
                self._asked.set_running_or_notify_cancel()  # who gives up waiting cancels nothing for the others
                # A pool's threads would be waited for when the process ends.
                threading.Thread(target=self._work, args=(self._asked,), name=f"ready-{self.name}", daemon=True).start()
            return self._asked

    def _work(self, asked: Future[dict[str, Any]]) -> None:
        try:
            asked.set_result(self._ask())
        except NotReady as exc:
            asked.set_exception(exc)
        except Exception:
            log.exception("readyz: %s cannot be asked", self.name)
            asked.set_exception(NotReady("cannot be used"))
        finally:
            connections.close_all()


def _database() -> dict[str, Any]:
    try:
        connection.ensure_connection()
    except DatabaseError as exc:
        log.warning("readyz: the database cannot be reached: %s", exc)
        raise NotReady("cannot be reached") from None
    try:
        Run.objects.exists()
    except DatabaseError as exc:
        log.warning("readyz: the database cannot be read: %s", exc)
        raise NotReady("cannot be read; was it migrated?") from None
    return {"vendor": connection.vendor}


def _queue() -> dict[str, Any]:
    found = read_queue(patience=TIMEOUT)
    if found.error is not None:
        log.warning("readyz: %s", found.error)
        raise NotReady("cannot be used")
    return {"kind": found.kind, "waiting": found.waiting, "oldest_s": found.oldest_s}


PARTS = (Part("database", _database), Part("queue", _queue))


async def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 where database and queue can be used, 503 where not, within ``TIMEOUT`` seconds or little more.

    How much waits in the queue is told, and makes nothing unready: another web process would not change it.
    """
    found = await asyncio.gather(*(part.check(TIMEOUT) for part in PARTS))
    checks = {part.name: check for part, check in zip(PARTS, found, strict=True)}
    ready = all(check["status"] == "ok" for check in checks.values())
    answer = {"status": "ok" if ready else "failed", "checks": checks, **({} if ready else {"more": MORE})}
    return JsonResponse(answer, status=200 if ready else 503, headers={"Cache-Control": "no-store"})
