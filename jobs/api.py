"""Reading jobs as JSON, and running them on the cluster."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from fetcher.api.access import check_start
from fetcher.api.db import in_thread
from fetcher.api.endpoint import endpoint
from fetcher.api.errors import Problem, not_found
from fetcher.api.pagination import decode_cursor, default_limit, link_headers, page_of
from fetcher.api.parameters import CURSOR, LIMIT
from fetcher.api.responses import json_response
from fetcher.api.starting import cluster, planned, read_body, started
from fetcher.engine.config import FetchConfig
from fetcher.listener import Listener
from fetcher.options import RunOptions
from fetcher.store.runs import load_config, load_options
from jobs import payloads, store
from jobs.models import Job

log = logging.getLogger(__name__)


@endpoint(CURSOR, LIMIT)
async def job_list(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
    """Answer with jobs, the newest first."""
    limit = given.get("limit") or default_limit()
    jobs = Job.objects.order_by("-id")
    if "cursor" in given:
        jobs = jobs.filter(id__lt=decode_cursor("jobs", given["cursor"]))
    page = page_of(await in_thread(payloads.job_items, jobs[: limit + 1]), limit, "jobs")
    return json_response(request, page, link_headers(request, page))


@endpoint()
async def job_detail(request: HttpRequest, given: dict[str, Any], name: str) -> HttpResponseBase:
    """Answer with one job, the next times it is due, and its last runs."""
    item = await in_thread(payloads.job_detail, name.replace("\x00", ""), timezone.now())
    if item is None:
        raise not_found(f"There is no job {name[:200]}.")
    return json_response(request, item)


@endpoint(methods=("POST",), check=check_start)
async def job_run(request: HttpRequest, given: dict[str, Any], name: str) -> HttpResponseBase:
    """Hand a job's list over to the cluster as one run, also where the job is paused, and answer with the run."""
    from jobs.running import queue_job  # and with it the engine, for whoever starts runs

    if (await read_body(request)).strip() not in (b"", b"{}"):
        raise Problem(HTTPStatus.BAD_REQUEST, "A job runs as it is saved: send no body, or {}.", pointer="#")
    listener = Listener(message=log.warning)
    try:
        config, options = await in_thread(_saved, name)
        await planned(queue_job(name, config, options, dispatcher=cluster(), listener=listener))
    except store.NoSuchJob:
        raise not_found(f"There is no job {name[:200]}.") from None
    except store.JobBusy as exc:
        raise Problem(HTTPStatus.CONFLICT, f"R{str(exc)[1:]}; wait for its end, or cancel it.", run=exc.run) from None
    return await started(listener.progress.run, [])


def _saved(name: str) -> tuple[FetchConfig, RunOptions]:
    job = store.find_job(name)
    return load_config(job), load_options(job)
