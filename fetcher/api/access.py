"""Who may read. ``FETCHER_API_ACCESS`` decides: ``login`` or ``loopback``."""

from __future__ import annotations

import ipaddress
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from fetcher.api.errors import Problem
from fetcher.conf import fetcher_settings

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


async def check_access(request: HttpRequest) -> None:
    """Raise Problem 401 or 403 unless the caller may read."""
    if fetcher_settings().api_access == "loopback":
        _check_loopback(request)
    else:
        await _check_login(request)


def is_loopback(address: str) -> bool:
    """Whether an IP address, as text, is this machine's own; an IPv4 one may be written as IPv6 (``::ffff:``)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _check_loopback(request: HttpRequest) -> None:
    if not is_loopback(request.META.get("REMOTE_ADDR", "")):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "Only this machine may read here. To serve others, set FETCHER_API_ACCESS=login and give them a login.",
        )
    if any(name in request.headers for name in _FORWARDED):
        # The peer is only a proxy: it is on this machine, whoever asks through it may not be.
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "Only this machine may read here, and this request came through a proxy. Behind a proxy, set "
            "FETCHER_API_ACCESS=login.",
        )


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
