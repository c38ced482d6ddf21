"""Which requests count as this machine's own."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import LazySettings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory

from fetcher.loopback import is_loopback, refusal
from tests.support.nginx import NginxMissing, nginx_program
from tests.support.processes import free_port, running, unavailable

MakeRequest = Callable[..., HttpRequest]


@pytest.fixture(params=["asgi", "wsgi"])
def request_from(request: pytest.FixtureRequest) -> MakeRequest:
    """A function that makes the request of a peer with headers, as each kind of server hands it over."""

    def make(peer: str = "127.0.0.1", version: str = "1.1", **headers: str) -> HttpRequest:
        sent = {"host": "localhost:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if request.param == "wsgi":
            more: dict[str, Any] = {"REMOTE_ADDR": peer, "SERVER_PROTOCOL": f"HTTP/{version}"}
            return RequestFactory().get("/", headers=sent, **more)
        fields = [(name.encode(), value.encode()) for name, value in sent.items()]
        scope = AsyncRequestFactory()._base_scope(path="/", client=(peer, 5000), http_version=version, headers=fields)
        return ASGIRequest(scope, BytesIO())

    return make


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("0.0.0.0", False), ("", False), ("localhost", False),
    ],
)  # fmt: skip
def test_is_loopback_judges_addresses(address: str, ours: bool) -> None:
    assert is_loopback(address) is ours


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "127.9.9.9"])
def test_request_from_this_machine_is_accepted(request_from: MakeRequest, peer: str) -> None:
    assert refusal(request_from(peer, accept="*/*", user_agent="curl/8", x_request_id="1", origin="null")) is None


def test_request_from_another_machine_is_refused(request_from: MakeRequest) -> None:
    assert "FETCHER_API_ACCESS=login" in str(refusal(request_from("192.0.2.7")))


@pytest.mark.parametrize(
    "header",
    [
        "via", "forwarded", "forwarded_for", "x_forwarded", "x_forwarded_for", "x_forwarded_proto", "x_forwarded_host",
        "x_forwarded_port", "x_forwarded_server", "x_forwarded_ssl", "x_forwarded_prefix", "x_forwarded_client_cert",
        "x_real_ip", "true_client_ip", "client_ip", "x_client_ip", "x_cluster_client_ip", "fastly_client_ip",
        "fly_client_ip", "cf_connecting_ip", "cf_ray", "cf_visitor", "cdn_loop", "cloudfront_viewer_address",
        "x_amzn_trace_id", "x_original_url", "x_rewrite_url", "x_envoy_external_address", "x_azure_clientip",
        "x_arr_ssl", "x_appengine_user_ip", "x_vercel_id", "x_scheme", "x_proxyuser_ip", "front_end_https",
    ],
)  # fmt: skip
def test_request_with_a_header_of_an_intermediary_is_refused(request_from: MakeRequest, header: str) -> None:
    assert "through a proxy" in str(refusal(request_from(**{header: "127.0.0.1"})))


def test_request_in_http_1_0_is_refused_as_a_proxys(request_from: MakeRequest) -> None:
    assert "through a proxy" in str(refusal(request_from(version="1.0")))


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True), ("LOCALHOST:8000", True), ("localhost.:1", True), ("trawl.localhost", True),
        ("127.0.0.1:8000", True), ("127.1.2.3", True), ("[::1]:8000", True), ("[::ffff:127.0.0.1]", True),
        ("rebound.example", False), ("127.0.0.1.rebound.example", False), ("localhost.example:80", False),
        ("notlocalhost", False), ("192.168.0.7:8000", False), ("0.0.0.0:8000", False), ("[2001:db8::1]", False),
    ],
)  # fmt: skip
def test_host_must_name_this_machine_whatever_django_allows(
    request_from: MakeRequest, settings: LazySettings, host: str, ours: bool
) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert (refusal(request_from(host=host)) is None) is ours


def test_host_that_the_operator_listed_is_accepted(request_from: MakeRequest, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS, settings.FETCHER_LOOPBACK_HOSTS = ["*"], "Trawl.test, other"
    assert refusal(request_from(host="trawl.test:8000")) is None
    assert refusal(request_from(host="trawl.test.example")) is not None


def test_host_that_django_does_not_allow_is_refused_without_an_error(
    request_from: MakeRequest, settings: LazySettings
) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]
    assert refusal(request_from(host="rebound.example")) is not None


@pytest.mark.services
@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_request_through_nginx_that_adds_no_header_is_refused(
    tmp_path: Path, serve_project: Callable[..., str], interface: str
) -> None:
    """``proxy_pass`` alone sends the upstream's own address as Host, in HTTP/1.0 (before nginx 1.29.7)."""
    upstream, port = serve_project(f"sqlite:///{tmp_path}/db.sqlite3", interface=interface), free_port()
    folders = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; events {{}} http {{ access_log off; {folders} server {{ "
        f"listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.0; proxy_pass {upstream}; }} }} }}\n"
    )
    try:
        command = [nginx_program(), "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]
    except NginxMissing as exc:
        unavailable(str(exc))
    with running(command, port, tmp_path / "nginx.log"), httpx.Client(trust_env=False) as client:
        direct = client.get(f"{upstream}/api/v1/nothing/")
        proxied = client.get(f"http://127.0.0.1:{port}/api/v1/nothing/")
    assert direct.status_code == 404
    assert (proxied.status_code, "through a proxy" in proxied.json()["detail"]) == (403, True)
