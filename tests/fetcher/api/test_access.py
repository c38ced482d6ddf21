"""Who may read."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from fetcher.models import Run

RUNS = "/api/v1/runs/"


class TestLoopback:
    @pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
    def test_lets_this_machine_read(self, api, peer):
        assert api.get(RUNS, peer=peer).status == 200

    @pytest.mark.parametrize("path", [RUNS, "/api/v1/nothing/", "/api/v1/runs", "/api/v1/fanout/"])
    def test_refuses_every_other_peer_everywhere(self, api, path):
        answer = api.get(path, peer="192.0.2.7")
        assert answer.status == 403
        assert "FETCHER_API_ACCESS=login" in answer.detail

    @pytest.mark.parametrize("header", ["via", "x_forwarded_proto"])
    def test_refuses_what_came_through_a_proxy(self, api, header):
        answer = api.get(RUNS, **{header: "https"})
        assert answer.status == 403
        assert "through a proxy" in answer.detail

    def test_refuses_a_host_that_is_not_this_machine_although_django_allows_it(self, api, settings):
        settings.ALLOWED_HOSTS = ["*"]
        answer = api.get(RUNS, host="rebound.example:8000")
        assert answer.status == 403
        assert "'rebound.example:8000'" in answer.detail


class TestLogin:
    @pytest.fixture(autouse=True)
    def login_is_asked(self, settings):
        settings.FETCHER_API_ACCESS = "login"

    @pytest.mark.parametrize("path", [RUNS, "/api/v1/nothing/", "/api/v1/runs/1/", "/api/v1/runs/?colour=red"])
    def test_asks_strangers_to_log_in_before_anything_else_is_told(self, api, path):
        answer = api.get(path)
        assert answer.status == 401
        assert "/admin/login/" in answer.detail
        assert answer.headers["WWW-Authenticate"] == 'Session realm="Trawl"'

    def test_lets_whoever_logged_in_read_from_anywhere(self, api):
        api.log_in(User.objects.create_user("reader"))
        answer = api.get(RUNS, peer="192.0.2.7")
        assert answer.status == 200
        assert "Cookie" in answer.headers["Vary"]

    def test_ends_with_the_account(self, api):
        user = User.objects.create_user("reader")
        api.log_in(user)
        user.is_active = False
        user.save()
        assert api.get(RUNS).status == 401

    def test_leaves_healthz_open(self, api):
        assert api.get("/healthz").status == 200


def test_fanout_on_this_machine_is_refused_to_a_browser_that_does_not_say_what_led_it_here(api):
    path = "/api/v1/fanout/?url=http://127.0.0.1:9/"
    assert api.get(path, accept="text/html").status == 403
    assert api.get(path, accept="text/html", sec_fetch_site="none").status == 200
    assert api.get(path).status == 200


class TestFanOut:
    """A GET that makes this server fetch asks for the right to start runs."""

    PATH = "/api/v1/fanout/?url=http://127.0.0.1:9/"

    @pytest.fixture(autouse=True)
    def login_is_asked(self, settings):
        settings.FETCHER_API_ACCESS = "login"

    def log_in(self, api, *permissions):
        user = User.objects.create_user("caller")
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        api.log_in(user)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_is_refused_without_a_login_and_without_the_permission(self, api, method):
        assert api.get(self.PATH, method=method).status == 401
        self.log_in(api)
        assert api.get(self.PATH, method=method).status == 403
        assert not Run.objects.exists()

    def test_needs_no_csrf_token(self, api):
        self.log_in(api, "add_run")
        assert api.get(self.PATH).status == 200

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"accept": "text/html,*/*"}, 403),
            ({"accept": "text/html,*/*", "sec_fetch_site": "none"}, 200),
            ({"accept": "text/html,*/*", "sec_fetch_site": "same-origin"}, 200),
            ({"accept": "text/html,*/*", "sec_fetch_site": "cross-site"}, 403),
            ({"accept": "application/json"}, 200),
        ],
    )
    def test_is_refused_to_a_browser_that_does_not_say_what_led_it_here(self, api, headers, status):
        self.log_in(api, "add_run")
        assert api.get(self.PATH, **headers).status == status
