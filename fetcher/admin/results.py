"""Results: one for each run and target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fetcher import payloads
from fetcher.admin.base import (
    CAP,
    LARGEST_KEY,
    NOTHING,
    ReadOnlyAdmin,
    badge,
    milliseconds,
    number,
    page_link,
    short,
    table,
    url_mark,
)
from fetcher.models import ERROR_KINDS, Result, ResultQuerySet, ResultStatus, Run, Target
from fetcher.shown import shown_text, shown_url

NEWEST_RUNS = 10


class RunFilter(admin.SimpleListFilter):
    """One run's results; offers the newest runs and whichever is chosen."""

    title = "run"
    parameter_name = "run"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the newest runs."""
        runs = list(Run.objects.order_by("-id").values_list("id", "label")[:NEWEST_RUNS])
        chosen = _run(request)
        if chosen is not None and chosen not in dict(runs):
            runs += Run.objects.filter(id=chosen).values_list("id", "label")
        return [(str(key), f"{key} {label}".strip()) for key, label in runs]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave the rows alone: ``get_search_results`` walks the run, once all filters are known."""
        return queryset


class _WithinRun(admin.SimpleListFilter):
    """A filter of fixed choices that is offered for one run only: over all runs no index helps it."""

    values: tuple[str, ...] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices; none before a run is chosen."""
        return [(value, value.replace("_", " ")) for value in self.values] if _run(request) is not None else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows with the value."""
        if _run(request) is None or self.value() not in self.values:
            return queryset
        return queryset.filter(**{str(self.parameter_name): self.value()})


class StatusFilter(_WithinRun):
    """By status."""

    title = "status"
    parameter_name = "status"
    values = tuple(ResultStatus.values)


class ErrorKindFilter(_WithinRun):
    """By error kind."""

    title = "error kind"
    parameter_name = "error_kind"
    values = ERROR_KINDS


def _run(request: HttpRequest) -> int | None:
    return number(request.GET.get("run", ""))


@admin.register(Result)
class ResultAdmin(ReadOnlyAdmin):
    """Lists the newest results, or those of a run; the page of one tells its whole story."""

    list_display = ("id", "outcome", "http_status", "error_kind", "url", "run_link", "tries", "took", "size", "changed")
    list_filter = (RunFilter, StatusFilter, ErrorKindFilter)
    search_fields = ("id",)
    search_help_text = (
        "A result's number, or a whole URL: every result of a plain GET of it. With a run chosen also a host, with its "
        "port: example.org:443."
    )
    fields = (
        "outcome", "error", "url", "answered_by", "run_link", "target_link", "label", "started_at", "took", "size",
        "attempts_table", "redirects_table", "headers_table", "request_table", "content", "changed", "extracted_value",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return rows with what a list shows of other tables, and without what only one row's page shows."""
        return Result.objects.select_related("target").only(
            "id", "run_id", "position", "status", "error_kind", "error_detail", "http_status", "attempts",
            "started_at", "elapsed_us", "bytes", "label", "final_url", "changed", "target__url", "target__method",
        )  # fmt: skip

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """List a run from its beginning, all runs from the newest result."""
        return ("-id",) if _run(request) is None else ("id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by number, URL, or host of the chosen run; a run's rows by a walk over its shards."""
        assert isinstance(queryset, ResultQuerySet)
        run, term = _run(request), search_term.strip()
        by_key = bool(term) and (number(term) is not None or url_mark(term) is not None)
        if by_key:
            found: QuerySet[Any] = self.find(queryset, term)
            return (found if run is None else found.filter(run=run)), False
        if run is None:
            return (queryset.none() if term else queryset), False
        given = request.GET
        unsuccessful = given.get("status") in (ResultStatus.FAILED, ResultStatus.SKIPPED)
        unsuccessful |= given.get("error_kind") in ERROR_KINDS
        hosts = (term.lower(),) if term else ()
        return queryset.filter(id__in=queryset.page(run, hosts=hosts, unsuccessful=unsuccessful, limit=CAP)), False

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the result of this number, or those of a plain GET of this URL."""
        if (key := number(term)) is not None:
            return queryset.filter(pk=key)
        # The target first: its results then come by the index on (target, run).
        target = Target.objects.filter(fingerprint=url_mark(term)).values_list("id", flat=True).first()
        return queryset.none() if target is None else queryset.filter(target=target)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return a result with its payload, from which its page is built."""
        key = number(object_id)
        found = self.get_queryset(request).filter(pk=min(key, LARGEST_KEY)).first() if key is not None else None
        if found is not None:
            found.story = payloads.result_detail(found.pk)
        return found

    @admin.display(description="status")
    def outcome(self, result: Result) -> SafeString:
        """Show the status."""
        return badge(result.status)

    @admin.display(description="URL")
    def url(self, result: Result) -> SafeString | str:
        """Show what was asked for; in lists shortened."""
        url = shown_url(result.target.url)
        text = url if result.target.method == "GET" else f"{result.target.method} {url}"
        return text if hasattr(result, "story") else short(text)

    @admin.display(description="final URL")
    def answered_by(self, result: Result) -> str:
        """Show where redirects led."""
        return shown_url(result.final_url) if result.final_url else NOTHING

    @admin.display(description="run")
    def run_link(self, result: Result) -> SafeString | str:
        """Link to the run."""
        return page_link("run", result.run_id)

    @admin.display(description="target")
    def target_link(self, result: Result) -> SafeString | str:
        """Link to the target."""
        return page_link("target", result.target_id, f"{result.target_id}: what was asked for, and its other results")

    @admin.display(description="attempts")
    def tries(self, result: Result) -> int:
        """Show the number of attempts."""
        return result.attempts

    @admin.display(description="took")
    def took(self, result: Result) -> str | None:
        """Show how long it took, waits included."""
        return milliseconds(result.elapsed_us / 1000)

    @admin.display(description="bytes")
    def size(self, result: Result) -> str:
        """Show the decoded bytes received."""
        return f"{result.bytes:,}"

    @admin.display(description="error")
    def error(self, result: Result) -> str:
        """Show why it failed."""
        return ": ".join(part for part in (result.error_kind, result.error_detail) if part) or NOTHING

    @admin.display(description="attempts")
    def attempts_table(self, result: Result) -> SafeString | str:
        """Show each attempt: where it went, how it ended, and how long it then waited and why."""
        rows = [
            (
                attempt.number, attempt.started_at, milliseconds(attempt.elapsed_ms), attempt.address,
                attempt.http_version, attempt.http_status,
                ": ".join(part for part in (attempt.error_kind, attempt.error_detail) if part),
                milliseconds(attempt.timings.dns_ms), milliseconds(attempt.timings.connect_ms),
                milliseconds(attempt.timings.tls_ms), milliseconds(attempt.timings.first_byte_ms),
                " ".join(filter(None, (milliseconds(attempt.waited_ms), attempt.wait_reason))),
            )
            for attempt in _story(result).attempt_log
        ]  # fmt: skip
        names = (
            "no.", "started", "took", "address", "protocol", "HTTP status", "error", "DNS", "connect", "TLS",
            "first byte", "then waited",
        )  # fmt: skip
        return table(names, rows)

    @admin.display(description="redirects")
    def redirects_table(self, result: Result) -> SafeString | str:
        """Show each hop."""
        return table(
            ("status", "from", "to"),
            [(hop.status, shown_url(hop.url), shown_url(hop.location)) for hop in _story(result).redirects],
        )

    @admin.display(description="answer's headers")
    def headers_table(self, result: Result) -> SafeString | str:
        """Show the answer's headers, secrets masked."""
        return _headers(_story(result).headers)

    @admin.display(description="target's own headers")
    def request_table(self, result: Result) -> SafeString | str:
        """Show the headers that the target itself sends; the run's are on the run's page."""
        return _headers(_story(result).request.headers)

    @admin.display(description="body")
    def content(self, result: Result) -> SafeString | str:
        """Link to the bytes, which the API gives as an attachment: a stranger's page must not run in the admin."""
        story = _story(result)
        about = f"{story.content_type or 'unknown type'}, SHA-256 {story.body_sha256}"
        if story.body_sha256 is None:
            return NOTHING
        if story.body_url is None:
            return f"{about}; not stored, or the API is not mounted"
        return format_html('<a href="{}">Download</a> ({})', story.body_url, about)

    @admin.display(description="extracted")
    def extracted_value(self, result: Result) -> SafeString | str:
        """Show the extracted value as JSON."""
        value = _story(result).extracted
        if value is None:
            return NOTHING
        return format_html('<pre class="trawl-code">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def _story(result: Result) -> payloads.ResultDetail:
    story = getattr(result, "story", None)
    assert isinstance(story, payloads.ResultDetail)
    return story


def _headers(headers: Mapping[str, str]) -> SafeString | str:
    return table(("name", "value"), [(name, shown_text(value)) for name, value in headers.items()])
