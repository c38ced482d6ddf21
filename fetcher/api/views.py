"""Reading what was saved."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from django.db.models import F, TextField, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponsePermanentRedirect, JsonResponse
from django.urls import Resolver404, resolve, reverse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag

from fetcher import payloads
from fetcher.api import parameters
from fetcher.api.db import in_thread
from fetcher.api.endpoint import METHODS, endpoint
from fetcher.api.errors import Problem, not_found
from fetcher.api.pagination import (
    LARGEST_KEY,
    decode_cursor,
    default_limit,
    encode_cursor,
    link_headers,
    page_of,
)
from fetcher.api.responses import content_response, json_response, streaming_response
from fetcher.bodies import BodyUnavailable, open_body, read_body
from fetcher.engine.urls import Url, fingerprint
from fetcher.models import Body, Result, ResultQuerySet, ResultStatus, Run

JSON = "application/json"
NDJSON = "application/x-ndjson"
STREAM_PAGE = 500
"""Results read at a time while streaming, at most."""
STREAM_START = 8
"""Results read at first, while their size is not known; they can be 64 KiB each and more."""
STREAM_BYTES = 128 * 1024
"""Bytes of lines to have in memory for each reader."""
WHOLE_BODY = 256 * 1024
"""Bytes; a larger body is streamed."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;[\x20-\x7e]*)?", re.ASCII)


def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers; asks nothing else."""
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


@endpoint(
    parameters.STATE,
    parameters.LABEL,
    parameters.JOB,
    parameters.CURSOR,
    parameters.LIMIT,
    methods=("GET", "HEAD", "POST"),  # which is answered elsewhere
)
async def run_list(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
    """Answer with runs, the newest first."""
    limit = given.get("limit") or default_limit()
    runs = Run.objects.order_by("-id")
    if "cursor" in given:
        runs = runs.filter(id__lt=decode_cursor("runs", given["cursor"]))
    if "state" in given:
        runs = await in_thread(runs.in_state, given["state"])  # which asks for the processes that have ended
    for parameter, column in (("label", "label"), ("job", "job_name")):
        if parameter in given:
            runs = runs.filter(**{column: given[parameter]})
    page = page_of(await in_thread(payloads.run_items, runs[: limit + 1]), limit, "runs")
    return json_response(request, page, link_headers(request, page))


@endpoint()
async def run_detail(request: HttpRequest, given: dict[str, Any], run: int) -> HttpResponseBase:
    """Answer with one run."""
    items = await in_thread(payloads.run_items, Run.objects.filter(id=_key(run)))
    if not items:
        raise not_found(f"There is no run {run}.")
    return json_response(request, items[0])


@endpoint(
    parameters.STATUS,
    parameters.ERROR_KIND,
    parameters.HTTP_STATUS,
    parameters.HOST,
    parameters.CHANGED,
    parameters.CURSOR,
    parameters.LIMIT,
)
async def run_results(request: HttpRequest, given: dict[str, Any], run: int) -> HttpResponseBase:
    """Answer with a run's results in the order of their ids: a page as JSON, or all of them as NDJSON."""
    wanted = request.get_preferred_type([JSON, NDJSON])
    if wanted is None:
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"Accept must allow {JSON} or {NDJSON}.")
    kind = f"results:{run}"
    after = decode_cursor(kind, given["cursor"]) if "cursor" in given else 0
    read = _reader(run, given)
    if wanted == NDJSON:
        if "limit" in given:
            raise Problem(HTTPStatus.BAD_REQUEST, "limit is for pages; a stream has all.", parameter="limit")
        await in_thread(_check_run, run)
        headers = {"Content-Type": NDJSON, "Vary": "Accept", "Cache-Control": "no-store"}
        return streaming_response(request, partial(_lines, read, after), headers)
    limit = given.get("limit") or default_limit()
    page = await in_thread(_result_page, run, read, after, limit, kind)
    return json_response(request, page, {"Vary": "Accept", **link_headers(request, page)})


def _reader(run: int, given: dict[str, Any]) -> partial[list[int]]:
    """Return a function of ``after`` and ``limit`` that reads ids of the results that were asked for."""
    results: ResultQuerySet = Result.objects.filter(
        **{name: given[name] for name in ("status", "error_kind", "http_status", "changed") if name in given}
    )
    # Whatever failed or was skipped has an error kind: the small index on those finds it.
    unsuccessful = "error_kind" in given or given.get("status") in (ResultStatus.FAILED, ResultStatus.SKIPPED)
    unsuccessful |= given.get("http_status", 0) >= HTTPStatus.BAD_REQUEST
    return partial(results.page, run, hosts=given.get("host", ()), unsuccessful=unsuccessful)


def _check_run(run: int) -> None:
    if not Run.objects.filter(id=_key(run)).exists():
        raise not_found(f"There is no run {run}.")


def _result_page(run: int, read: partial[list[int]], after: int, limit: int, kind: str) -> payloads.Page:
    _check_run(run)
    ids = read(after=after, limit=limit + 1)
    following = encode_cursor(kind, ids[limit - 1]) if len(ids) > limit else None
    return payloads.Page(payloads.result_items(ids[:limit]), following)


def _lines(read: partial[list[int]], after: int) -> Iterator[bytes]:
    limit = min(STREAM_START, STREAM_PAGE)
    while ids := read(after=after, limit=limit):
        lines = b"".join(map(payloads.encode_line, payloads.result_items(ids)))
        yield lines
        after = ids[-1]
        limit = max(1, min(STREAM_PAGE, STREAM_BYTES * len(ids) // len(lines)))


@endpoint()
async def result_detail(request: HttpRequest, given: dict[str, Any], result: int) -> HttpResponseBase:
    """Answer with all that is known of one result."""
    item = await in_thread(payloads.result_detail, _key(result))
    if item is None:
        raise not_found(f"There is no result {result}.")
    return json_response(request, item)


@endpoint()
async def result_body(request: HttpRequest, given: dict[str, Any], result: int) -> HttpResponseBase:
    """Answer with the decoded bytes as they were fetched.

    They are whatever a stranger's server sent, so a browser may only save them: as an attachment, sandboxed, never
    sniffed for another type.
    """
    row = await in_thread(_body_row, _key(result))
    if row is None:
        raise not_found(f"There is no result {result}.")
    if row["body_id"] is None:
        raise not_found(f"No body is stored for result {result}.")
    media_type = row["content_type"] if _MEDIA_TYPE.fullmatch(row["content_type"]) else "application/octet-stream"
    extension = mimetypes.guess_extension(media_type.partition(";")[0].strip().lower()) or ""
    headers = {
        "Content-Type": media_type,
        "Content-Disposition": f'attachment; filename="result-{result}{extension}"',
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
        "ETag": quote_etag(bytes(row["sha256"]).hex()),
    }
    unchanged = get_conditional_response(request, etag=headers["ETag"], response=HttpResponse(headers=headers))
    if unchanged is not None and unchanged.status_code != HTTPStatus.OK:
        return unchanged
    try:
        return await _body_response(request, row, headers)
    except BodyUnavailable as exc:
        raise not_found(f"The body of result {result} cannot be read: {exc}") from None


def _body_row(result: int) -> dict[str, Any] | None:
    rows = Result.objects.filter(id=result).values(
        content_type=Coalesce("representation__content_type", Value(""), output_field=TextField()),
        body_id=F("representation__body_id"),
        sha256=F("representation__body__sha256"),
        size=F("representation__body__size"),
    )
    return cast("dict[str, Any] | None", rows.first())


async def _body_response(request: HttpRequest, row: dict[str, Any], headers: dict[str, str]) -> HttpResponseBase:
    if row["size"] <= WHOLE_BODY:
        content = await in_thread(lambda: read_body(Body.objects.get(id=row["body_id"])))
        return content_response(request, content, headers)
    body = await in_thread(Body.objects.get, id=row["body_id"])
    # A file that is gone must be found out before the head of the answer is sent.
    await in_thread(next, open_body(body), b"")
    return streaming_response(request, partial(open_body, body), {**headers, "Content-Length": str(row["size"])})


@endpoint(parameters.URL, parameters.GOOD)
async def latest(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
    """Answer with the result of a URL (a plain GET of it) in the newest run that has one."""
    url: Url = given["url"]
    item = await in_thread(_latest, url, good=given.get("good", False))
    if item is None:
        raise not_found(f"{url.href} was never fetched{' with success' if given.get('good') else ''}.")
    return json_response(request, item)


def _latest(url: Url, *, good: bool) -> payloads.ResultDetail | None:
    results = Result.objects.of_url(url.href)
    newest = (results.good() if good else results).values_list("id", flat=True).first()
    return None if newest is None else payloads.result_detail(newest)


@endpoint(parameters.URL, parameters.STATUS, parameters.CURSOR, parameters.LIMIT)
async def history(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
    """Answer with all results of a URL (a plain GET of it), the newest run's first."""
    url: Url = given["url"]
    # The list is the URL's: a cursor of another one would skip or repeat results.
    kind = f"history:{fingerprint('GET', url.href).hex()}"
    before = decode_cursor(kind, given["cursor"]) if "cursor" in given else None
    limit = given.get("limit") or default_limit()
    page = await in_thread(_history_page, url, given.get("status"), before, limit, kind)
    return json_response(request, page, link_headers(request, page))


def _history_page(url: Url, status: str | None, before: int | None, limit: int, kind: str) -> payloads.Page:
    results = Result.objects.of_url(url.href)
    if before is None and not results.exists():
        raise not_found(f"{url.href} was never fetched.")
    if before is not None:
        results = results.filter(run__lt=before)
    if status is not None:
        results = results.filter(status=status)
    items = payloads.result_items(list(results.values_list("id", flat=True)[: limit + 1]))
    shown = items[:limit]
    return payloads.Page(shown, encode_cursor(kind, shown[-1].run) if len(items) > limit else None)


@endpoint(strict=False, methods=None)
async def nothing_here(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
    """Answer for every unknown address under the API.

    A read of an address that only lacks its last slash is redirected. Other methods get a 404 that names the address:
    curl and others do not follow a redirected POST unless told to, and a redirect explains nothing.
    """
    try:
        found = resolve(f"{request.path_info}/").view_name
    except Resolver404:
        found = ""
    if found not in ("", "fetcher:nothing-here"):
        if request.method in METHODS:
            return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
        raise not_found(f"There is nothing at {request.path}; its address ends with a slash: {request.path}/")
    raise not_found(f"There is nothing at {request.path}; begin at {reverse('fetcher:run-list')}.")


def _key(number: int) -> int:
    """Return an id as the database can compare it; one that is too large finds nothing."""
    return min(number, LARGEST_KEY)
