"""Bodies: stored content, kept once."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fetcher import payloads
from fetcher.admin.base import NOTHING, ReadOnlyAdmin, page_link, table
from fetcher.models import Body, Representation

SHOWN = 20
"""Representations that the page of a body shows."""


@admin.register(Body)
class BodyAdmin(ReadOnlyAdmin):
    """Lists bodies from the newest, without their content."""

    list_display = ("id", "digest", "bytes", "encoding", "file")
    search_fields = ("id",)
    search_help_text = "A body's number, or its SHA-256 in hexadecimal."
    fields = ("digest", "bytes", "encoding", "file", "download", "representations_table")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return rows without the content, which can be large."""
        return Body.objects.defer("content")

    def find(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the body of this digest or number."""
        if re.fullmatch(r"[0-9a-fA-F]{64}", term):
            return queryset.filter(sha256=bytes.fromhex(term))
        return super().find(queryset, term)

    @admin.display(description="SHA-256")
    def digest(self, body: Body) -> str:
        """Show the digest."""
        return str(body)

    @admin.display(description="bytes")
    def bytes(self, body: Body) -> str:
        """Show the decoded size."""
        return f"{body.size:,}"

    @admin.display(description="content")
    def download(self, body: Body) -> SafeString | str:
        """Link to the bytes, by way of the first result that has them."""
        first = Representation.objects.filter(body=body).values_list("id", flat=True).first()
        url = None if first is None else payloads.body_url(first)
        return NOTHING if url is None else format_html('<a href="{}">Download</a>', url)

    @admin.display(description="first found by")
    def representations_table(self, body: Body) -> SafeString | str:
        """Show the results that found this content first, each for its target."""
        found = Representation.objects.filter(body=body).order_by("id")[:SHOWN]
        rows = [(page_link("result", x.pk), x.content_type, x.etag, x.last_modified) for x in found]
        return table(("result", "content type", "ETag", "Last-Modified"), rows)
