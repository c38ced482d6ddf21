"""Starting runs on the cluster: planned within the request, fetched later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

import msgspec
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse

from fetcher.api.access import check_start
from fetcher.api.asked import Asked, bad_member, read_asked
from fetcher.api.db import in_thread
from fetcher.api.endpoint import endpoint
from fetcher.api.errors import Problem
from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe
from fetcher.dispatch import Dispatcher, DispatchError, dispatcher
from fetcher.engine.config import ConfigError
from fetcher.listener import Listener
from fetcher.models import Run, RunState
from fetcher.payloads import RunItem, encode, run_items
from fetcher.sources import Entry

log = logging.getLogger(__name__)

_planning: set[asyncio.Future[RunState]] = set()
"""What goes on although its caller may be gone; the loop itself keeps no task alive."""


class RejectedItem(msgspec.Struct, frozen=True):
    """An entry that is no target, by its place in the list from 0; ``value`` is shortened and has no password."""

    index: int
    value: str
    reason: str


class StartedItem(msgspec.Struct, frozen=True):
    """A run that was handed over to the cluster, and what could not be accepted of it."""

    run: RunItem
    rejected: list[RejectedItem]


async def read_body(request: HttpRequest) -> bytes:
    """Return the body. Raises Problem (413) for one that is too long."""
    most = fetcher_settings().api_max_bytes
    body: bytes = await in_thread(request.read, most + 1)
    if len(body) > most:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is longer than {most} bytes (FETCHER_API_MAX_BYTES). Make several calls, or hand a longer list "
            "over with: manage.py fetch_urls --file PATH --queue",
        )
    return body


def cluster() -> Dispatcher:
    """Return the cluster's dispatcher. Raises Problem (503) where there is none."""
    try:
        return dispatcher()
    except DispatchError as exc:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, _sentence(str(exc))) from None


async def planned(planning: Coroutine[Any, Any, RunState]) -> None:
    """Wait until a run is planned, which goes on also where the caller does not wait. Raises Problem (400, 503)."""
    task = asyncio.ensure_future(planning)
    _planning.add(task)
    task.add_done_callback(_planning.discard)
    try:
        await asyncio.shield(task)
    except ConfigError as exc:
        raise bad_member(f"options/{exc.name}", str(exc)) from None
    except DispatchError as exc:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, _sentence(str(exc))) from None
    except (DatabaseError, InterfaceError, OSError) as exc:  # OSError: the disk is nearly full
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, _sentence(describe(exc))) from None


async def started(run: int, rejected: list[RejectedItem]) -> HttpResponseBase:
    """Answer with a run that was handed over."""
    [item] = await in_thread(run_items, Run.objects.filter(pk=run))
    return HttpResponse(
        encode(StartedItem(item, rejected)),
        status=HTTPStatus.ACCEPTED,
        content_type="application/json",
        headers={"Location": reverse("fetcher:run-detail", args=[run]), "Cache-Control": "no-store"},
    )


@endpoint(methods=("POST",), check=check_start)
async def run_start(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
    """Hand a list of URLs over to the cluster as one run, and answer with it."""
    from fetcher.queueing import queue_list  # and with it the engine, for whoever starts runs

    body = await read_body(request)
    asked: Asked = await in_thread(read_asked, body)
    rejected: list[RejectedItem] = []

    def reject(entry: Entry) -> None:
        rejected.append(RejectedItem(entry.line - 1, entry.value, entry.reason))

    listener = Listener(rejected=reject, message=log.warning)
    await planned(
        queue_list(
            asked.entries,
            asked.config,
            asked.options,
            dispatcher=cluster(),
            label=asked.label,
            source="POST runs/",
            listener=listener,
        )
    )
    return await started(listener.progress.run, rejected)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
