"""The admin page of jobs: to look at, to pause and to resume."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fetcher.admin.base import NOTHING, ReadOnlyAdmin, badge, number, page_link, table
from fetcher.models import Run
from fetcher.payloads import run_items, timestamp
from jobs import payloads, store
from jobs.models import Job

REJECTED = 20
"""Rejected lines that the page of a job shows."""


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Lists jobs from the newest. Commands change them; here they are paused and resumed."""

    actions = ("pause", "resume")
    list_display = ("name", "enabled", "schedule_text", "targets", "created_at", "updated_at")
    list_display_links = ("name",)
    list_filter = ("enabled",)
    list_select_related = ("list",)
    search_fields = ("name",)
    search_help_text = "A job's number, or its whole name."
    fields = (
        "name", "enabled", "schedule_text", "next_times", "overlap", "missed", "start_jitter", "keep_runs", "keep_days",
        "source", "targets", "duplicates", "rejected_table", "runs_table", "options_table", "created_at", "updated_at",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return rows without their secrets, sealed as they are."""
        return Job.objects.select_related("list").defer("secrets")

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the job of this number, or of this name."""
        key = number(term)
        by_name = queryset.filter(name=term)
        return by_name if key is None else queryset.filter(pk=key) | by_name

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may pause and resume."""
        user = request.user
        return user.is_active and user.has_perm("jobs.change_job")

    @admin.action(description="Pause the selected jobs", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Pause."""
        self._switch(request, queryset, enabled=False)

    @admin.action(description="Resume the selected jobs", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resume."""
        self._switch(request, queryset, enabled=True)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Any], *, enabled: bool) -> None:
        changed = sum(store.pause_or_resume(name, enabled=enabled) for name in queryset.values_list("name", flat=True))
        self.message_user(request, f"{'resumed' if enabled else 'paused'}: {changed}", messages.SUCCESS)

    @admin.display(description="schedule")
    def schedule_text(self, job: Job) -> str:
        """Say when it is due."""
        return payloads.schedule_text(job)

    @admin.display(description="due next")
    def next_times(self, job: Job) -> str:
        """Show the next times."""
        return ", ".join(timestamp(time) for time in payloads.due(job, timezone.now())) or NOTHING

    @admin.display(description="source")
    def source(self, job: Job) -> str:
        """Show where its list came from."""
        return job.list.source or NOTHING

    @admin.display(description="targets")
    def targets(self, job: Job) -> str:
        """Count its targets."""
        return f"{job.list.size:,}"

    @admin.display(description="duplicates")
    def duplicates(self, job: Job) -> str:
        """Count the duplicates of its import."""
        return f"{job.list.duplicates:,}"

    @admin.display(description="rejected lines")
    def rejected_table(self, job: Job) -> SafeString | str:
        """Show the first lines of its import that are no targets."""
        lines = job.list.rejected_lines.order_by("id")[:REJECTED]
        shown = table(("source", "line", "value", "reason"), [(x.source, x.line, x.value, x.reason) for x in lines])
        if job.list.rejected <= REJECTED:
            return shown
        return format_html('{}<p class="trawl-note">{} in all.</p>', shown, f"{job.list.rejected:,}")

    @admin.display(description="last runs")
    def runs_table(self, job: Job) -> SafeString | str:
        """Show its last runs."""
        runs = Run.objects.filter(job_name=job.name, job_id=job.pk).order_by("-id")[: payloads.LAST_RUNS]
        rows = [
            (page_link("run", run.id), badge(run.state), run.started_at, f"{run.total:,}", f"{run.failed:,}")
            for run in run_items(runs)
        ]
        shown = table(("run", "state", "started", "targets", "failed"), rows)
        url = f"{reverse('admin:fetcher_run_changelist')}?q={job.name}"
        return format_html('{}<p class="trawl-note"><a href="{}">All of them</a></p>', shown, url) if rows else shown

    @admin.display(description="options")
    def options_table(self, job: Job) -> SafeString | str:
        """Show the options, which are stored without secrets."""
        rows = ((name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(job.options.items()))
        return table(("option", "value"), rows)
