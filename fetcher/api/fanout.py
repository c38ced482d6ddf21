"""Fetching a few URLs now, side by side, inside the request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase
from msgspec import UNSET, Raw, UnsetType

from fetcher.api.access import check_fetch
from fetcher.api.endpoint import View, endpoint
from fetcher.api.errors import Problem, bad_parameter
from fetcher.api.parameters import Parameter
from fetcher.api.responses import content_response
from fetcher.conf import fetcher_settings
from fetcher.content import read_content
from fetcher.engine.errors import InvalidUrl, SpillFailed
from fetcher.engine.types import Outcome
from fetcher.engine.urls import Url, parse_url
from fetcher.extraction import Extract, Found, parse_extract
from fetcher.payloads import encode
from fetcher.shown import shown_text
from fetcher.sources.entry import redacted
from fetcher.texts import clean_text

_READING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="trawl-fanout")
"""What reads bodies, which may take a while, and nothing from those who read the database."""
_GROWTH = 2
"""Bytes of an answer for each byte of bodies that is allowed: as JSON a character may take up to six."""


class Report(Protocol):
    """What ``fetcher.fanout.fan_out`` gives: the saved run, milliseconds, one outcome for each URL, what was found."""

    @property
    def run(self) -> int: ...  # noqa: D102
    @property
    def elapsed_ms(self) -> float: ...  # noqa: D102
    @property
    def outcomes(self) -> Sequence[Outcome]: ...  # noqa: D102
    @property
    def extracted(self) -> Sequence[Found]: ...  # noqa: D102


FanOut = Callable[[list[Url], Extract | None], AbstractAsyncContextManager[Report]]
"""Fetches and saves; the bodies can be read until it is left."""


class FanOutItem(msgspec.Struct, frozen=True):
    """One answer: ``json`` where it is JSON, ``text`` where it is text, neither where it is binary or absent.

    ``extracted`` is what the expression finds in ``json``, null without one. ``error_detail`` also says why that, or
    the content, is missing from an answer that succeeded.
    """

    url: str
    status: str
    http_status: int | None
    error_kind: str | None
    error_detail: str | None
    elapsed_ms: float
    json: Raw | UnsetType
    text: Raw | UnsetType
    extracted: Any


class FanOutAnswer(msgspec.Struct, frozen=True):
    """All answers, in the order asked; ``run`` is where they are saved."""

    run: int
    elapsed_ms: float
    items: list[FanOutItem]


def parse_urls(texts: Sequence[str]) -> list[Url]:
    """Parse the URLs of one call, duplicates kept. Raises Problem (400) that lists every URL at fault."""
    most = fetcher_settings().fanout_max_urls
    if len(texts) > most:
        raise bad_parameter("url", f"is given {len(texts)} times; at most {most} URLs can be fetched in one call")
    urls, invalid = [], []
    for text in texts:
        try:
            urls.append(parse_url(text))
        except InvalidUrl as exc:
            invalid.append({"url": redacted(text), "reason": shown_text(str(exc))})
    if invalid:
        listed = "; ".join(f"{entry['url'][:100]!r} {entry['reason']}" for entry in invalid)
        raise bad_parameter("url", f"cannot be used: {listed}", invalid=invalid)
    return urls


def answer(report: Report, urls: Sequence[Url]) -> FanOutAnswer:
    """Build the answer from the report on the unique URLs; each of ``urls`` is answered, duplicates as well.

    What would make it larger than twice ``FETCHER_FANOUT_MAX_BYTES`` is left out, and said.
    """
    room = fetcher_settings().fanout_max_bytes * _GROWTH
    asked = Counter(url.href for url in urls)
    items = {}
    for outcome, found in zip(report.outcomes, report.extracted, strict=True):
        url = outcome.target.url
        items[url], size = _item(outcome, found, room // asked[url])
        room -= size * asked[url]
    return FanOutAnswer(report.run, round(report.elapsed_ms, 3), [items[url.href] for url in urls])


def _item(outcome: Outcome, found: Found, room: int) -> tuple[FanOutItem, int]:
    """Return an item and the bytes of its content, of which there is none where they are more than ``room``."""
    json, text = read_content(outcome.header("content-type"), outcome.body)
    size = sum(memoryview(content).nbytes for content in (json, text) if isinstance(content, Raw))
    remark = found.remark
    if size > room:
        json = text = UNSET
        remark = f"its content is left out: the answer has room for {room} bytes more; it is saved"
    item = FanOutItem(
        url=outcome.target.url,
        status=outcome.status,
        http_status=outcome.http_status,
        error_kind=outcome.error_kind,
        error_detail=clean_text(outcome.error_detail or remark) or None,
        elapsed_ms=round(outcome.elapsed * 1000, 3),
        json=json,
        text=text,
        extracted=found.value,
    )
    return item, 0 if size > room else size


def fanout_view(fan_out: FanOut) -> View[[]]:
    """Make the view of ``fanout/`` over the function that fetches and saves."""

    @endpoint(
        Parameter("url", parse_urls, required=True, repeated=True),
        Parameter("extract", parse_extract),
        check=check_fetch,
    )
    async def fanout(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
        urls: list[Url] = given["url"]
        try:
            async with fan_out(list({url.href: url for url in urls}.values()), given.get("extract")) as report:
                content = await sync_to_async(_encoded, thread_sensitive=False, executor=_READING)(report, urls)
        except SpillFailed as exc:  # this server's disk, and no URL's doing
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{exc}.") from None
        return content_response(request, content, {"Content-Type": "application/json", "Cache-Control": "no-store"})

    return fanout


def _encoded(report: Report, urls: Sequence[Url]) -> bytes:
    return encode(answer(report, urls))
