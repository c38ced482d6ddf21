"""Targets, and lines that were none."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from fetcher import payloads
from fetcher.admin.base import NOTHING, ReadOnlyAdmin, badge, milliseconds, number, page_link, short, table, url_mark
from fetcher.headers import load_headers
from fetcher.models import RejectedLine, Result, Target
from fetcher.shown import shown_url

HISTORY = 50
"""Results that the page of a target shows."""


@admin.register(Target)
class TargetAdmin(ReadOnlyAdmin):
    """Lists targets from the newest; the page of one shows its history."""

    list_display = ("id", "method", "short_url", "host")
    search_fields = ("id",)
    search_help_text = "A target's number, or a whole URL (of a plain GET)."
    fields = ("method", "whole_url", "host", "headers_table", "body_size", "history_table")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return rows without what a list does not show."""
        return Target.objects.defer("headers", "body", "fingerprint")

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the target of this number, or of a plain GET of this URL."""
        if number(term) is not None:
            return super().find(queryset, term)
        mark = url_mark(term)
        return queryset.none() if mark is None else queryset.filter(fingerprint=mark)

    @admin.display(description="URL")
    def short_url(self, target: Target) -> SafeString | str:
        """Show the URL, shortened."""
        return short(shown_url(target.url), 120)

    @admin.display(description="URL")
    def whole_url(self, target: Target) -> str:
        """Show the URL."""
        return shown_url(target.url)

    @admin.display(description="own headers")
    def headers_table(self, target: Target) -> SafeString | str:
        """Show the headers that only this target sends, secrets masked."""
        return table(("name", "value"), payloads.shown_headers(load_headers(target.headers)).items())

    @admin.display(description="body")
    def body_size(self, target: Target) -> str:
        """Show the body's length only: it may hold a password."""
        return NOTHING if target.body is None else f"{len(target.body):,} bytes"

    @admin.display(description="results")
    def history_table(self, target: Target) -> SafeString | str:
        """Show the newest results."""
        results = Result.objects.filter(target=target).order_by("-run_id").defer("detail", "extracted")[:HISTORY]
        rows = [
            (
                page_link("result", result.pk), page_link("run", result.run_id), badge(result.status),
                result.http_status, result.error_kind, f"{result.started_at:%Y-%m-%d %H:%M:%S}",
                milliseconds(result.elapsed_us / 1000), f"{result.bytes:,}",
                {True: "yes", False: "no", None: None}[result.changed],
            )
            for result in results
        ]  # fmt: skip
        names = ("result", "run", "status", "HTTP status", "error kind", "started", "took", "bytes", "changed")
        return table(names, rows)


@admin.register(RejectedLine)
class RejectedLineAdmin(ReadOnlyAdmin):
    """Lists rejected lines from the newest."""

    list_display = ("id", "run_link", "source", "line", "value", "reason")
    search_fields = ("id",)
    search_help_text = "A run's number: the lines that it rejected."
    fields = ("run_link", "source", "line", "value", "reason")
    readonly_fields = fields

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the lines of a run."""
        key = number(term)
        return queryset.none() if key is None else queryset.filter(run=key)

    @admin.display(description="run")
    def run_link(self, line: RejectedLine) -> SafeString | str:
        """Link to the run."""
        return page_link("run", line.run_id)
