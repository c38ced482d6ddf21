"""The API with a fan-out that fetches from ``PAGES`` instead of the network."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.urls import include, path

from fetcher.api.fanout import fanout_view

PAGES: dict[str, tuple[str, bytes]] = {}
ASKED: list[list[str]] = []


@dataclass
class Page:
    url: str
    content_type: str | None = None
    body: bytes | None = None
    status: str = "succeeded"
    http_status: int | None = 200
    error_kind: str | None = None
    error_detail: str | None = ""
    elapsed_ms: float = 1.23456


@dataclass
class Report:
    items: list[Page]
    run: int = 42
    elapsed_ms: float = field(default=9.87654)


async def fan_out(urls, extract):
    ASKED.append([url.href for url in urls])
    return Report([
        Page(url.href, *PAGES[url.href]) if url.href in PAGES
        else Page(url.href, status="failed", http_status=None, error_kind="dns", error_detail="no such name")
        for url in urls
    ])  # fmt: skip


urlpatterns = [path("api/v1/fanout/", fanout_view(fan_out)), path("", include("fetcher.api.urls"))]
