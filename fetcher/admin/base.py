"""What all pages share: nothing can be changed, and no list reads more than a bounded part of its table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import fingerprint, parse_url

CAP = 1_000
"""A list goes no further than this many rows."""
LARGEST_KEY = 2**63 - 1
NOTHING = "-"

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
    _Paginator = Paginator[Model]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator


class CappedPaginator(_Paginator):
    """Counts no further than ``CAP``: on PostgreSQL and SQLite alike, counting a table reads all of it."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows that the list can show."""
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows.order_by()[:CAP].count()

    @property
    def capped(self) -> bool:
        """Whether there may be more rows than can be shown."""
        return self.count == CAP


class ReadOnly(_ModelAdmin):
    """Refuses every change, whatever permissions a user has. Put it before the class whose pages it protects."""

    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: only fetching adds rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: what was recorded stays as it was."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: a run has millions of rows, which a page cannot list for confirmation."""
        return False


class ReadOnlyAdmin(ReadOnly):
    """A list and a page for each row. A column can be a field or a method; no column sorts."""

    paginator = CappedPaginator
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    ordering = ("-id",)
    change_list_template = "fetcher/admin/change_list.html"

    class Media:
        css: ClassVar = {"all": ["fetcher/admin.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Look up by an index what the search box says; the fields in ``search_fields`` only make it appear."""
        term = search_term.strip()
        return (self.find(queryset, term) if term else queryset), False

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the rows that a term means: by default that of a number."""
        return queryset.filter(pk=key) if (key := number(term)) is not None else queryset.none()


def number(term: str) -> int | None:
    """Return the row id that a term is, or None."""
    return min(int(term), LARGEST_KEY) if re.fullmatch(r"[0-9]{1,30}", term) else None


def url_mark(term: str) -> bytes | None:
    """Return the fingerprint of a plain GET of the URL that a term is, or None where it is none."""
    try:
        return fingerprint("GET", parse_url(term).href)
    except InvalidUrl:
        return None


def page_link(model: str, key: int | None, text: str = "") -> SafeString | str:
    """Link to the page of a row of our models."""
    if key is None:
        return NOTHING
    return format_html('<a href="{}">{}</a>', reverse(f"admin:fetcher_{model}_change", args=[key]), text or key)


def badge(state: str) -> SafeString:
    """Show a status or state in its colour."""
    return format_html('<span class="trawl-badge trawl-{}">{}</span>', state, state.replace("_", " "))


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> SafeString | str:
    """Return a table; a dash stands for what is not known, and for a table without rows."""
    lines = [[NOTHING if cell is None or cell == "" else cell for cell in row] for row in rows]
    if not lines:
        return NOTHING
    head = format_html_join("", "<th>{}</th>", ((name,) for name in names))
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in line)),) for line in lines)
    )
    return format_html('<table class="trawl-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body)


def milliseconds(value: float | None) -> str | None:
    """Write a duration for people."""
    if value is None:
        return None
    return f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:,.1f} ms"


def short(text: str, length: int = 100) -> SafeString | str:
    """Shorten a text for a column; the whole of it shows under the pointer."""
    return text if len(text) <= length else format_html('<span title="{}">{}…</span>', text, text[:length])
