"""Whether a request comes from this machine itself, and not from another one through a proxy or a browser."""

from __future__ import annotations

import ipaddress
import re

from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from fetcher.conf import fetcher_settings

_FORWARDED = re.compile(
    r"HTTP_(?:VIA|FORWARDED.*|X_FORWARDED.*|X_REAL_IP|X_ORIGINAL_.*|X_REWRITE_URL|X_PROXYUSER_IP"
    r"|(?:X_|TRUE_|FASTLY_|FLY_)?CLIENT_IP|X_CLUSTER_CLIENT_IP|CF_.*|CDN_LOOP|CLOUDFRONT_.*|X_AMZN_TRACE_ID|X_AMZ_CF_ID"
    r"|X_ENVOY_.*|X_AZURE_.*|X_ARR_.*|X_APPENGINE_.*|X_CLOUD_TRACE_CONTEXT|X_VERCEL_.*|X_SCHEME|X_PROXY_.*"
    r"|SURROGATE_CAPABILITY|FRONT_END_HTTPS)"
)
"""Names in META of headers that only an intermediary adds: RFC 9110, section 7.6.3 (Via), RFC 7239 (Forwarded),
RFC 8586 (CDN-Loop), and those of nginx, HAProxy, Traefik, Envoy, IIS and the large providers."""
_PORT = re.compile(r":[0-9]*$")


def is_loopback(address: str) -> bool:
    """Whether an IP address, as text, is this machine's own; an IPv4 one may be written as IPv6 (``::ffff:``)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def is_loopback_name(host: str) -> bool:
    """Whether a host without its port, lower-case, is a name or address of this machine only.

    ``localhost`` and the names below it mean loopback wherever they are looked up (RFC 6761, section 6.3). Others can
    be listed in ``FETCHER_LOOPBACK_HOSTS``.
    """
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name in fetcher_settings().loopback_hosts:
        return True
    return is_loopback(name.removeprefix("[").removesuffix("]"))


def refusal(request: HttpRequest) -> str | None:
    """Return why a request is not this machine's own, as a sentence for its sender; None where it is.

    A peer on loopback proves nothing: it can be a reverse proxy, or a browser on a page whose name was made to resolve
    to 127.0.0.1 (DNS rebinding). So the request must carry no header of an intermediary and a Host of this machine, and
    must not be HTTP/1.0, which nginx before 1.29.7 speaks to upstreams unless told otherwise and local programs do not.
    A proxy that shows none of these signs cannot be told from a local program; ``fetcher.W004`` warns of it.
    """
    if not is_loopback(request.META.get("REMOTE_ADDR", "")):
        return "Only this machine has access. To serve others, set FETCHER_API_ACCESS=login and give them a login."
    if any(map(_FORWARDED.fullmatch, request.META)) or _is_http_1_0(request):
        return "Only this machine has access, and this request came through a proxy. Set FETCHER_API_ACCESS=login."
    try:
        host = request.get_host().lower()
    except DisallowedHost:
        host = ""
    if not is_loopback_name(_PORT.sub("", host)):
        return (
            f"Only this machine has access, under its own names (localhost, 127.0.0.1, [::1]), and the request's Host "
            f"is {host[:100]!r}. Use one of these names, or add yours to FETCHER_LOOPBACK_HOSTS."
        )
    return None


def _is_http_1_0(request: HttpRequest) -> bool:
    if isinstance(request, ASGIRequest):
        version = str(request.scope.get("http_version"))
    else:
        version = request.META.get("SERVER_PROTOCOL", "").removeprefix("HTTP/")
    return version in ("1", "1.0")  # granian leaves ".0" out
