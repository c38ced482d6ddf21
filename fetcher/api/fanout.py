"""Fetching a few URLs now, side by side, inside the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from msgspec import UnsetType

from fetcher.api.access import refuse_cross_site
from fetcher.api.db import in_thread
from fetcher.api.endpoint import View, endpoint
from fetcher.api.errors import bad_parameter
from fetcher.api.parameters import Parameter
from fetcher.conf import fetcher_settings
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.types import Outcome
from fetcher.engine.urls import Url, parse_url
from fetcher.extraction import Extract, parse_extract, read_content
from fetcher.payloads import encode


class Report(Protocol):
    """What ``fetcher.fanout.fan_out`` returns: the saved run, milliseconds, one outcome for each URL."""

    @property
    def run(self) -> int: ...  # noqa: D102
    @property
    def elapsed_ms(self) -> float: ...  # noqa: D102
    @property
    def outcomes(self) -> Sequence[Outcome]: ...  # noqa: D102


FanOut = Callable[[list[Url], Extract | None], Awaitable[Report]]


class FanOutItem(msgspec.Struct, frozen=True):
    """One answer: ``json`` where it is JSON, ``text`` where it is text, neither where it is binary or absent.

    ``extracted`` is what the expression finds in ``json``, null without one.
    """

    url: str
    status: str
    http_status: int | None
    error_kind: str | None
    error_detail: str | None
    elapsed_ms: float
    json: Any | UnsetType
    text: str | UnsetType
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
            invalid.append({"url": text[:500], "reason": str(exc)})
    if invalid:
        listed = "; ".join(f"{entry['url'][:100]!r} {entry['reason']}" for entry in invalid)
        raise bad_parameter("url", f"cannot be used: {listed}", invalid=invalid)
    return urls


def answer(report: Report, urls: Sequence[Url], extract: Extract | None) -> FanOutAnswer:
    """Build the answer from the report on the unique URLs; each of ``urls`` is answered, duplicates as well."""
    items = {outcome.target.url: _item(outcome, extract) for outcome in report.outcomes}
    return FanOutAnswer(report.run, round(report.elapsed_ms, 3), [items[url.href] for url in urls])


def _item(outcome: Outcome, extract: Extract | None) -> FanOutItem:
    json, text = read_content(outcome.header("content-type"), outcome.body)
    return FanOutItem(
        url=outcome.target.url,
        status=outcome.status,
        http_status=outcome.http_status,
        error_kind=outcome.error_kind,
        error_detail=outcome.error_detail or None,
        elapsed_ms=round(outcome.elapsed * 1000, 3),
        json=json,
        text=text,
        extracted=None if extract is None else extract(outcome),
    )


def fanout_view(fan_out: FanOut) -> View[[]]:
    """Make the view of ``fanout/`` over the function that fetches and saves."""

    @endpoint(Parameter("url", parse_urls, required=True, repeated=True), Parameter("extract", parse_extract))
    async def fanout(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
        refuse_cross_site(request)
        urls: list[Url] = given["url"]
        extract: Extract | None = given.get("extract")
        report = await fan_out(list({url.href: url for url in urls}.values()), extract)
        content = await in_thread(lambda: encode(answer(report, urls, extract)))
        return HttpResponse(content, content_type="application/json", headers={"Cache-Control": "no-store"})

    return fanout
