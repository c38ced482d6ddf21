"""Runs, and how each of them went."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fetcher import payloads
from fetcher.admin.base import NOTHING, ReadOnlyAdmin, badge, milliseconds, number, page_link, short, table
from fetcher.models import RejectedLine, Result, ResultStatus, Run, RunState
from fetcher.shown import shown_options

LOOKED_AT = 10_000
"""Failures whose causes the page of a run counts, at most."""
REJECTED = 20
"""Rejected lines that it shows."""


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Lists runs from the newest; the page of one leads to its results by status and cause."""

    list_display = (
        "id",
        "state_badge",
        "label",
        "short_source",
        "job_name",
        "created_at",
        "took",
        *ResultStatus.values,
    )
    list_filter = ("state",)
    search_fields = ("label",)
    search_help_text = "A run's number, or its whole label."
    fields = (
        "state_badge", "label", "source", "job_name", "parent_link", "created_at", "started_at", "planned_at",
        "finished_at", "took", "error", "results_table", "causes", "figures", "rejected_table", "options_table",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return rows without their secrets, sealed as they are."""
        return Run.objects.defer("secrets", "source_offset")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return a run with its payload."""
        key = number(object_id)
        found = self.get_queryset(request).filter(pk=key).first() if key is not None else None
        if found is not None:
            found.items = payloads.run_items(Run.objects.filter(pk=found.pk))[0]
        return found

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list with the counters of all runs on the page, which are read at once."""
        changes = super().get_changelist_instance(request)
        runs = list(changes.result_list)
        items = payloads.run_items(Run.objects.filter(pk__in=[run.pk for run in runs]))
        by_id = {item.id: item for item in items}
        for run in runs:
            run.items = by_id[run.pk]
        changes.result_list = runs
        return changes

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the run of this number, or the runs of this label."""
        key = number(term)
        by_label = queryset.filter(label=term)
        return by_label if key is None else queryset.filter(pk=key) | by_label

    @admin.display(description="state")
    def state_badge(self, run: Run) -> SafeString:
        """Show the state."""
        return badge(run.state)

    @admin.display(description="source")
    def short_source(self, run: Run) -> SafeString | str:
        """Show where its URLs came from."""
        return short(run.source, 50) or NOTHING

    @admin.display(description="took")
    def took(self, run: Run) -> str | None:
        """Show the time from start to end."""
        if run.started_at is None or run.finished_at is None or run.state == RunState.RUNNING:
            return None
        return milliseconds((run.finished_at - run.started_at).total_seconds() * 1000)

    @admin.display(description="succeeded")
    def succeeded(self, run: Run) -> SafeString | str:
        """Count and link the succeeded."""
        return _count(run, "succeeded")

    @admin.display(description="not modified")
    def not_modified(self, run: Run) -> SafeString | str:
        """Count and link the unchanged."""
        return _count(run, "not_modified")

    @admin.display(description="failed")
    def failed(self, run: Run) -> SafeString | str:
        """Count and link the failed."""
        return _count(run, "failed")

    @admin.display(description="skipped")
    def skipped(self, run: Run) -> SafeString | str:
        """Count and link the skipped."""
        return _count(run, "skipped")

    @admin.display(description="retries")
    def parent_link(self, run: Run) -> SafeString | str:
        """Link to the run whose failures this one fetches again."""
        return page_link("run", run.parent_id)

    @admin.display(description="results")
    def results_table(self, run: Run) -> SafeString | str:
        """Show the counts by status, each with a link to the results."""
        rows = [(badge(status), _count(run, status)) for status in ResultStatus.values]
        item = _item(run)
        return table(("status", "results"), [*rows, ("pending", f"{item.pending:,}"), ("all", _all(run, item.total))])

    @admin.display(description="causes")
    def causes(self, run: Run) -> SafeString | str:
        """Show what failures have in common, from the first some thousand of them."""
        failures = Result.objects.filter(run=run).unsuccessful().order_by("id")
        kinds = Counter(
            (kind or "", status if kind == "http_status" else None)  # of other kinds the status says nothing
            for kind, status in failures.values_list("error_kind", "http_status")[:LOOKED_AT]
        )
        rows = [
            (_results(run, kind, error_kind=kind), status, f"{count:,}")
            for (kind, status), count in kinds.most_common()
        ]
        shown = table(("error kind", "HTTP status", "results"), rows)
        if kinds.total() < LOOKED_AT:
            return shown
        return format_html('{}<p class="trawl-note">Counted in the first {} failures.</p>', shown, f"{LOOKED_AT:,}")

    @admin.display(description="figures")
    def figures(self, run: Run) -> str:
        """Show what was received and what was passed over."""
        item = _item(run)
        return f"{item.bytes:,} bytes received, {item.duplicates:,} duplicates, {item.rejected:,} rejected lines"

    @admin.display(description="rejected lines")
    def rejected_table(self, run: Run) -> SafeString | str:
        """Show the first lines that are no targets."""
        lines = RejectedLine.objects.filter(run=run).order_by("id")[:REJECTED]
        shown = table(("source", "line", "value", "reason"), [(x.source, x.line, x.value, x.reason) for x in lines])
        if run.rejected <= REJECTED:
            return shown
        url = f"{reverse('admin:fetcher_rejectedline_changelist')}?q={run.pk}"
        return format_html('{}<p class="trawl-note"><a href="{}">More of them</a></p>', shown, url)

    @admin.display(description="options")
    def options_table(self, run: Run) -> SafeString | str:
        """Show the options, which are stored without secrets."""
        options = shown_options(run.options)
        rows = ((name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(options.items()))
        return table(("option", "value"), rows)


def _item(run: Run) -> payloads.RunItem:
    item = getattr(run, "items", None)
    assert isinstance(item, payloads.RunItem)
    return item


def _results(run: Run, text: str, **filters: Any) -> SafeString:
    url = f"{reverse('admin:fetcher_result_changelist')}?{urlencode({'run': run.pk, **filters})}"
    return format_html('<a href="{}">{}</a>', url, text)


def _count(run: Run, status: str) -> SafeString | str:
    count = getattr(_item(run), status)
    return _results(run, f"{count:,}", status=status) if count else "0"


def _all(run: Run, total: int) -> SafeString:
    return _results(run, f"{total:,}")
