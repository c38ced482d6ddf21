"""A URLconf whose view fails with secrets in its variables."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.debug import sensitive_variables

from fetcher.conf import connection_options, fetch_config

SECRET = "hunter2-in-settings"


@sensitive_variables("marked")
def failing(request: HttpRequest) -> HttpResponse:
    """Fail with secrets in reach of a debug page: texts, configurations, dictionaries."""
    marked = f"marked {SECRET}"
    config, options = fetch_config(), connection_options()
    password, mapping = SECRET, {"proxy": SECRET, "deep": [{"token": SECRET}]}
    address = f"redis://:{SECRET}@127.0.0.1/0"
    shown = "an ordinary variable"
    raise RuntimeError("what went wrong", len((marked, config, options, password, mapping, address, shown)))


urlpatterns = [path("failing/", failing)]
