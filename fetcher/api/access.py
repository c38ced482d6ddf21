"""Who may read and who may start runs. ``FETCHER_API_ACCESS`` decides: ``login`` or ``loopback``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import NoReverseMatch, reverse

from fetcher.api.db import in_thread
from fetcher.api.errors import Problem
from fetcher.conf import fetcher_settings
from fetcher.loopback import refusal

PERMISSION = "fetcher.add_run"
"""What a session needs beside a login to start runs."""


async def check_access(request: HttpRequest) -> None:
    """Raise Problem 401 or 403 unless the caller may read."""
    if fetcher_settings().api_access == "loopback":
        if reason := refusal(request):
            raise Problem(HTTPStatus.FORBIDDEN, reason)
    else:
        await _check_login(request)


async def check_start(request: HttpRequest) -> None:
    """Raise Problem 401, 403 or 415 unless the caller may start runs.

    It must be allowed to read, and no other site's page. A session must send its CSRF token and needs the permission
    ``fetcher.add_run``.
    """
    await check_access(request)
    refuse_cross_site(request)
    if request.content_type not in ("", "application/json"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON, with Content-Type: application/json.")
    if fetcher_settings().api_access == "loopback":
        return
    if reason := await in_thread(_Csrf(lambda request: HttpResponse()).reason_against, request):
        raise Problem(HTTPStatus.FORBIDDEN, f"{reason} Send the cookie csrftoken, and its value as X-CSRFToken.")
    await _check_permission(request)


async def check_fetch(request: HttpRequest) -> None:
    """Raise Problem 401 or 403 unless the caller may have this server fetch by a GET.

    Like ``check_start``, without a CSRF token, which no link can carry. Over https, and to this machine, browsers name
    the site that led them here (Sec-Fetch-Site). Over plain HTTP they do not: there none may come by navigation.
    """
    await check_access(request)
    refuse_cross_site(request)
    if "Sec-Fetch-Site" not in request.headers and "text/html" in request.headers.get("Accept", ""):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "This browser does not say which page led here, and another site's page may not make this server fetch. "
            "Open the URL over https, or send Accept: application/json.",
        )
    if fetcher_settings().api_access == "login":
        await _check_permission(request)


async def _check_permission(request: HttpRequest) -> None:
    user = await request.auser()
    if not await user.ahas_perm(PERMISSION):
        raise Problem(HTTPStatus.FORBIDDEN, f"Starting runs needs the permission {PERMISSION}, which you do not have.")


class _Csrf(CsrfViewMiddleware):
    """Django's check where a view asks for it, with an answer of the view's own."""

    def reason_against(self, request: HttpRequest) -> str | None:
        self.process_request(request)
        reason: Any = self.process_view(request, _any_view, (), {})
        return None if reason is None else str(reason)

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _any_view(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


def refuse_cross_site(request: HttpRequest) -> None:
    """Raise Problem (403) for a request that another site's page caused: it would make this server fetch for it."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != request.get_host().lower()
    if foreign or site not in ("same-origin", "none"):
        raise Problem(HTTPStatus.FORBIDDEN, "Another site's page may not make this server fetch. Open the URL itself.")


async def _check_login(request: HttpRequest) -> None:
    if not hasattr(request, "auser"):
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "FETCHER_API_ACCESS=login needs AuthenticationMiddleware.")
    user = await request.auser()
    if not user.is_authenticated:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            f"Log in at {_login_path()} first; the session cookie of that login is what is asked for here.",
            # RFC 9110, section 15.5.2 wants a challenge; no browser opens a dialogue for this scheme.
            headers={"WWW-Authenticate": 'Session realm="Trawl"'},
        )


def _login_path() -> str:
    try:
        return reverse("admin:login")
    except NoReverseMatch:
        return str(settings.LOGIN_URL)
