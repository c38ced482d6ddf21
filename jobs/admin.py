"""The admin page of jobs: to look at, to run on the cluster, to pause and to resume. Those of the queue: to look at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fetcher.admin.base import NOTHING, ReadOnly, ReadOnlyAdmin, badge, number, page_link, table
from fetcher.disk import DiskNearlyFull
from fetcher.dispatch import DispatchError
from fetcher.engine.config import ConfigError
from fetcher.models import Run
from fetcher.payloads import run_items
from fetcher.secrets import UnsealError
from fetcher.shown import shown_options
from jobs import firing, payloads, store
from jobs.models import Job
from jobs.store import JobError

REJECTED = 20
"""Rejected lines that the page of a job shows."""


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Lists jobs from the newest. Commands change them; here they are run, paused and resumed."""

    actions = ("run_now", "pause", "resume")
    list_display = ("name", "enabled", "schedule_text", "due_next", "targets", "updated_at")
    list_display_links = ("name",)
    list_filter = ("enabled",)
    list_select_related = ("list",)
    search_fields = ("name",)
    search_help_text = "A job's number, or its whole name."
    fields = (
        "name", "enabled", "schedule_text", "next_times", "overlap", "missed", "start_jitter", "keep_runs", "keep_days",
        "source", "targets", "duplicates", "rejected_table", "firings_table", "runs_table", "options_table",
        "created_at", "updated_at",
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
        """Whether somebody may run, pause and resume."""
        user = request.user
        return user.is_active and user.has_perm("jobs.change_job")

    @admin.action(description="Run the selected jobs now, on the cluster", permissions=["operate"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Begin a run of each, as the command does: also where the job is paused."""
        for job in queryset.defer(None):
            try:
                run = firing.run_now(job)
            except (JobError, ConfigError, UnsealError, DiskNearlyFull) as exc:
                self.message_user(request, f"Job {job.name}: {exc}", messages.WARNING)
            except DispatchError as exc:
                self.message_user(request, f"Nothing was begun: {exc}", messages.ERROR)
                return
            else:
                text = format_html("Job {}: {} was begun", job.name, page_link("run", run, f"run {run}"))
                self.message_user(request, text, messages.SUCCESS)

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

    @admin.display(description="due next (UTC)")
    def due_next(self, job: Job) -> str:
        """Show the next time."""
        return _times(payloads.due(job, timezone.now(), 1))

    @admin.display(description="due next (UTC)")
    def next_times(self, job: Job) -> str:
        """Show the next times."""
        return _times(payloads.due(job, timezone.now()))

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

    @admin.display(description="last firings")
    def firings_table(self, job: Job) -> SafeString | str:
        """Show when it was due last, and what became of that."""
        rows = [
            (x.intended_at[:16].replace("T", " "), badge(x.state), x.run and page_link("run", x.run), x.reason)
            for x in payloads.firing_items(job)
        ]
        return table(("due (UTC)", "what became of it", "run", "why"), rows)

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
        options = shown_options(job.options)
        rows = ((name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(options.items()))
        return table(("option", "value"), rows)


def _times(times: Iterable[datetime]) -> str:
    return ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in times) or NOTHING


def protect_queue(site: admin.AdminSite) -> None:
    """Make django-q2's pages of a site read-only.

    A schedule or a resubmitted task is the dotted path of any function and its arguments: whoever may add one runs
    ``os.system`` on the cluster. No permission in Django's admin should amount to that.
    """
    import django_q.admin  # noqa: F401  (registers its pages, if INSTALLED_APPS has it after jobs)

    for model, page in list(site._registry.items()):
        if model._meta.app_label == "django_q" and not isinstance(page, ReadOnly):
            site.unregister(model)
            site.register(model, type(f"ReadOnly{type(page).__name__}", (ReadOnly, type(page)), {}))


if apps.is_installed("django_q"):  # jobs.E001 says so if it is not
    protect_queue(admin.site)
