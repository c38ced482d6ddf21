"""Fetching a few URLs now, side by side, inside the request."""

from __future__ import annotations

import codecs
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import jmespath
import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from jmespath.exceptions import JMESPathError
from msgspec import UNSET, UnsetType

from fetcher.api.db import in_thread
from fetcher.api.endpoint import View, endpoint
from fetcher.api.errors import Problem, bad_parameter
from fetcher.api.parameters import Parameter
from fetcher.conf import fetcher_settings
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import Url, parse_url
from fetcher.payloads import encode

MAX_EXPRESSION = 1000
"""Characters; a JMESPath expression longer than this is refused."""

_JSON = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?json", re.ASCII)
_TEXT = re.compile(
    r"text/.+|.+\+xml|application/(?:xml|(?:x-)?javascript|ecmascript|(?:x-)?yaml|toml|x-www-form-urlencoded"
    r"|(?:x-)?ndjson|jsonl|sql|graphql)"
)
# Python knows more codecs than the Web does, some of which take quadratic time on a hostile body.
_CHARSETS = re.compile(
    r"utf-(?:8|16|32)(?:-[lb]e|-sig)?|ascii|iso8859-\d+|cp\d+|koi8-[rut]|mac-\w+|tis-620"
    r"|gb\w+|hz|big5\w*|euc_\w+|shift_jis\w*|iso2022_\w+|johab"
)


class Fetched(Protocol):
    """One URL's outcome as ``fetcher.service.fan_out`` reports it; ``body`` is decoded content."""

    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def http_status(self) -> int | None: ...  # noqa: D102
    @property
    def error_kind(self) -> str | None: ...  # noqa: D102
    @property
    def error_detail(self) -> str | None: ...  # noqa: D102
    @property
    def elapsed_ms(self) -> float: ...  # noqa: D102
    @property
    def content_type(self) -> str | None: ...  # noqa: D102
    @property
    def body(self) -> bytes | None: ...  # noqa: D102


class Report(Protocol):
    """What ``fetcher.service.fan_out`` returns: the saved run, and outcomes in the order asked."""

    @property
    def run(self) -> int: ...  # noqa: D102
    @property
    def elapsed_ms(self) -> float: ...  # noqa: D102
    @property
    def items(self) -> Sequence[Fetched]: ...  # noqa: D102


class Expression(Protocol):
    """A compiled JMESPath expression."""

    def search(self, value: Any) -> Any: ...  # noqa: D102


FanOut = Callable[[list[Url], Expression | None], Awaitable[Report]]


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


def parse_expression(text: str) -> Expression:
    """Compile a JMESPath expression. Raises ValueError saying where it cannot be read."""
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"must be at most {MAX_EXPRESSION} characters long, not {len(text)}")
    try:
        compiled: Expression = jmespath.compile(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (JMESPathError, ValueError) as exc:
        raise ValueError(f"is not a JMESPath expression: {' '.join(str(exc).split())}") from None
    return compiled


def refuse_cross_site(request: HttpRequest) -> None:
    """Raise Problem (403) for a request that another site's page caused: it would make this server fetch for it."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != request.get_host().lower()
    if foreign or site not in ("same-origin", "none"):
        raise Problem(HTTPStatus.FORBIDDEN, "Another site's page may not make this server fetch. Open the URL itself.")


def answer(report: Report, urls: Sequence[Url], expression: Expression | None) -> FanOutAnswer:
    """Build the answer from the report on the unique URLs; each of ``urls`` is answered, duplicates as well."""
    items = {item.url: _item(item, expression) for item in report.items}
    return FanOutAnswer(report.run, round(report.elapsed_ms, 3), [items[url.href] for url in urls])


def _item(fetched: Fetched, expression: Expression | None) -> FanOutItem:
    json, text = read_content(fetched.content_type or "", fetched.body)
    return FanOutItem(
        url=fetched.url,
        status=str(fetched.status),
        http_status=fetched.http_status,
        error_kind=None if fetched.error_kind is None else str(fetched.error_kind),
        error_detail=fetched.error_detail or None,
        elapsed_ms=round(fetched.elapsed_ms, 3),
        json=json,
        text=text,
        extracted=None if expression is None or json is UNSET else _extracted(expression, json),
    )


def _extracted(expression: Expression, value: Any) -> Any:
    try:
        return expression.search(value)
    except (JMESPathError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
        return None  # the expression does not fit this answer; its functions raise whatever Python raises


def read_content(content_type: str, body: bytes | None) -> tuple[Any | UnsetType, str | UnsetType]:
    """Return a body as (json, text), of which at most one is set: text is decoded by its charset, errors replaced."""
    if body is None:
        return UNSET, UNSET
    media_type = content_type.partition(";")[0].strip().lower()
    if _JSON.fullmatch(media_type):
        try:
            return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8)), UNSET
        except (ValueError, RecursionError):
            return UNSET, _decoded(content_type, body)
    if _TEXT.fullmatch(media_type):
        return UNSET, _decoded(content_type, body)
    if not media_type and b"\x00" not in body:
        try:
            return UNSET, body.decode()
        except UnicodeDecodeError:
            return UNSET, UNSET
    return UNSET, UNSET


def _decoded(content_type: str, body: bytes) -> str:
    named = re.search(r";\s*charset\s*=\s*\"?([\w:.+-]{1,40})", content_type, re.ASCII | re.IGNORECASE)
    try:
        charset = codecs.lookup(named[1]).name if named else "utf-8"
    except LookupError:
        charset = "utf-8"
    text = body.decode(charset if _CHARSETS.fullmatch(charset) else "utf-8", "replace")
    return text.removeprefix("\ufeff")


def fanout_view(fan_out: FanOut) -> View[[]]:
    """Make the view of ``fanout/`` over the function that fetches and saves."""

    @endpoint(Parameter("url", parse_urls, required=True, repeated=True), Parameter("extract", parse_expression))
    async def fanout(request: HttpRequest, given: dict[str, Any]) -> HttpResponseBase:
        refuse_cross_site(request)
        urls: list[Url] = given["url"]
        expression = given.get("extract")
        report = await fan_out(list({url.href: url for url in urls}.values()), expression)
        content = await in_thread(lambda: encode(answer(report, urls, expression)))
        return HttpResponse(content, content_type="application/json", headers={"Cache-Control": "no-store"})

    return fanout
