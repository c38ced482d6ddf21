"""Routes of the JSON API."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from django.urls import URLPattern, URLResolver, include, path, re_path

from fetcher.api import views
from fetcher.api.endpoint import with_post
from fetcher.api.fanout import Report, fanout_view
from fetcher.api.starting import run_start
from fetcher.engine.urls import Url
from fetcher.extraction import Extract


def _fan_out(urls: list[Url], extract: Extract | None) -> AbstractAsyncContextManager[Report]:
    # Only this address fetches: the engine is loaded when it is first asked for.
    from fetcher.fanout import fan_out

    return fan_out(urls, extract=extract)


app_name = "fetcher"

_api: list[URLPattern | URLResolver] = [
    path("runs/", with_post(views.run_list, run_start), name="run-list"),
    path("runs/<int:run>/", views.run_detail, name="run-detail"),
    path("runs/<int:run>/results/", views.run_results, name="run-results"),
    path("results/<int:result>/", views.result_detail, name="result-detail"),
    path("results/<int:result>/body/", views.result_body, name="result-body"),
    path("latest/", views.latest, name="latest"),
    path("history/", views.history, name="history"),
    path("fanout/", fanout_view(_fan_out), name="fanout"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", views.healthz, name="healthz"),
    path("api/v1/", include(_api)),
    re_path(r"^api/v1(?:/.*)?$", views.nothing_here, name="nothing-here"),
]
