"""Reading jobs as JSON."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from fetcher.api.db import in_thread
from fetcher.api.endpoint import endpoint
from fetcher.api.errors import not_found
from fetcher.api.pagination import decode_cursor, default_limit, link_headers, page_of
from fetcher.api.parameters import CURSOR, LIMIT
from fetcher.api.responses import json_response
from jobs import payloads
from jobs.models import Job


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
