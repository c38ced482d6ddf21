"""The API with a fan-out that fetches from ``PAGES`` instead of the network."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass

from django.urls import include, path

from fetcher.api.fanout import fanout_view
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Outcome, Status, Target
from fetcher.extraction import NOTHING, Found

PAGES: dict[str, tuple[str, bytes]] = {}
ASKED: list[list[str]] = []


@dataclass
class Report:
    outcomes: list[Outcome]
    extracted: list[Found]
    run: int = 42
    elapsed_ms: float = 9.87654


def outcome(url: str, content_type: str = "", body: bytes | None = None, **values) -> Outcome:
    return Outcome(**{
        "target": Target(url, ""), "status": Status.SUCCEEDED, "started_at": 0.0, "finished_at": 0.0,
        "elapsed": 0.00123456, "final_url": url, "http_status": 200, "headers": (("Content-Type", content_type),),
        "body": body, **values,
    })  # fmt: skip


@asynccontextmanager
async def fan_out(urls, extract):
    ASKED.append([url.href for url in urls])
    outcomes = [
        outcome(url.href, *PAGES[url.href]) if url.href in PAGES
        else outcome(url.href, status=Status.FAILED, http_status=None, error_kind=ErrorKind.DNS,
                     error_detail="no such name")
        for url in urls
    ]  # fmt: skip
    yield Report(outcomes, extract(outcomes) if extract else [NOTHING] * len(outcomes))


urlpatterns = [path("api/v1/fanout/", fanout_view(fan_out)), path("", include("fetcher.api.urls"))]
