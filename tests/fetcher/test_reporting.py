"""What debug pages, error mails and tracebacks show of secrets, and to whom."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import LazySettings
from django.test import Client, RequestFactory
from django.utils.log import AdminEmailHandler
from django.utils.module_loading import import_string
from django.views.debug import get_default_exception_reporter_filter

from fetcher.reporting import LocalReporter, SecretsFilter
from tests.fetcher.debug_urls import SECRET
from tests.support.forking import fork_each

ENVIRONMENT = {
    "FETCHER_HEADERS": f"Authorization: Bearer {SECRET}\nX-Team: {SECRET}",
    "FETCHER_PROXY": f"http://me:{SECRET}@proxy.example:3128",
    "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/0",
    "SECRET_KEY": f"{SECRET}{SECRET}",
    "PARTNER": SECRET,
}
HIDDEN = SecretsFilter.cleansed_substitute
HEADERS = {"authorization": f"Bearer {SECRET}", "x-auth-token": SECRET, "x-api-key": SECRET, "cookie": f"a={SECRET}"}
NO_SETTINGS = (SECRET, "INSTALLED_APPS", "Traceback", "Q_CLUSTER")


@pytest.fixture
def debugging(settings: LazySettings) -> LazySettings:
    """Settings as in development, with secrets in many of them."""
    settings.DEBUG, settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = True, "tests.fetcher.debug_urls", ["localhost"]
    settings.FETCHER_HEADERS = ENVIRONMENT["FETCHER_HEADERS"]
    settings.FETCHER_PROXY = ENVIRONMENT["FETCHER_PROXY"]
    settings.Q_CLUSTER = {"name": "trawl", "redis": ENVIRONMENT["REDIS_URL"], "list": [f"amqp://u:{SECRET}@h"]}
    settings.SENTRY_DSN = settings.MY_HEADERS = SECRET
    settings.SOMETHING = (f"postgres://u:{SECRET}@db/x", f"Basic {SECRET}".encode(), f"host=db password={SECRET}")
    return settings


def page(url: str, **headers: str) -> tuple[int, str]:
    answer = Client(raise_request_exception=False).get(url, headers={"host": "localhost:8000", **HEADERS, **headers})
    return answer.status_code, answer.content.decode()


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_debug_page_shows_what_happened_and_no_secret(debugging: LazySettings, accept: str) -> None:
    status, text = page("/failing/", accept=accept)
    assert status == 500
    assert "what went wrong" in text
    assert "INSTALLED_APPS" in text
    assert SECRET not in text


def test_debug_page_still_shows_ordinary_variables(debugging: LazySettings) -> None:
    assert "an ordinary variable" in page("/failing/", accept="text/html")[1]


def test_debug_404_has_no_secret(debugging: LazySettings) -> None:
    status, text = page("/nowhere/", accept="text/html")
    assert (status, "failing/" in text, SECRET in text) == (404, True, False)


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_foreign_host_gets_a_plain_400(debugging: LazySettings, accept: str) -> None:
    status, text = page("/failing/", host="rebound.example", accept=accept)
    assert status == 400
    assert "Bad Request (400)" in text
    assert len(text) < 300


@pytest.mark.parametrize(
    "request_of", [{"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_X_FORWARDED_PROTO": "https"}, {"HTTP_VIA": "1.1 gate"}]
)
def test_another_machine_gets_no_debug_page_although_it_sends_our_host(
    debugging: LazySettings, request_of: dict[str, Any]
) -> None:
    answer = Client(raise_request_exception=False).get("/failing/", headers={"host": "localhost"}, **request_of)
    assert (answer.status_code, len(answer.content) < 300) == (500, True)
    assert b"Server Error (500)" in answer.content


def test_settings_that_cannot_be_read_show_no_debug_page(debugging: LazySettings) -> None:
    debugging.FETCHER_PAGE_LIMIT, debugging.ALLOWED_HOSTS = "many", ["*"]
    status, text = page("/failing/", host="rebound.example")
    assert (status, len(text) < 300) == (500, True)


def test_error_mail_has_the_report_without_secrets(
    debugging: LazySettings, mailoutbox: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    debugging.ADMINS, debugging.DEBUG = [("a", "a@example.org")], False
    debugging.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    page("/failing/")
    [record] = [record for record in caplog.records if record.exc_info]
    record.request.META["REMOTE_ADDR"] = "192.0.2.7"  # type: ignore[attr-defined]
    AdminEmailHandler(include_html=True).emit(record)
    mail = mailoutbox[-1]
    text = mail.body + mail.alternatives[0][0]
    assert "what went wrong" in mail.body
    assert "Traceback" in mail.alternatives[0][0]
    assert SECRET not in text


def test_project_uses_both_classes(settings: LazySettings) -> None:
    assert isinstance(get_default_exception_reporter_filter(), SecretsFilter)
    assert import_string(settings.DEFAULT_EXCEPTION_REPORTER) is LocalReporter


def test_values_from_the_environment_are_hidden_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER", SECRET)
    request = RequestFactory().get("/", PARTNER=SECRET, HTTP_ACCEPT="text/html")
    meta = SecretsFilter().get_safe_request_meta(request)
    assert (meta["PARTNER"], meta["HTTP_ACCEPT"]) == (HIDDEN, "text/html")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("FETCHER_CONCURRENCY", 5, False), ("DATABASE_URL", "x", False), ("X_PWD", "x", False), ("dsn", "x", False),
        ("anything", "https://u:p@example.org/", False), ("anything", "bearer abc", False),
        ("anything", b"redis://:p@h/0", False), ("anything", "password=x", False),
        ("anything", "https://example.org/a@b", True), ("ROOT_URLCONF", "settings.urls", True),
        ("TIME_ZONE", "UTC", True), ("anything", "a bearer of news", True),
    ],
)  # fmt: skip
def test_filter_hides_by_name_and_by_text(name: str, value: Any, shown: bool) -> None:
    assert SecretsFilter().cleanse_setting(name, value) == (value if shown else HIDDEN)


@pytest.mark.services
@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_development_server_shows_no_secret_and_a_foreign_host_nothing(
    serve_project: Callable[..., str], tmp_path: Path, interface: str
) -> None:
    environment = {**ENVIRONMENT, "DJANGO_SETTINGS_MODULE": "tests.fetcher.debug_settings"}
    base = serve_project(f"sqlite:///{tmp_path}/db.sqlite3", interface=interface, environment=environment)
    with httpx.Client(base_url=base, trust_env=False, headers={**HEADERS, "accept": "text/html"}) as client:
        for path in ("/failing/", "/nowhere/"):
            answer = client.get(path)
            assert answer.status_code in (404, 500)
            assert "failing" in answer.text
            assert SECRET not in answer.text
            answer = client.get(path, headers={"host": "rebound.example"})
            assert answer.status_code == 400
            assert len(answer.content) < 300


WRONG = [
    {"FETCHER_HEADERS": f"Authorization Bearer {SECRET}"},
    {"FETCHER_HEADERS": f"A b: {SECRET}"},
    {"FETCHER_HEADERS": f"Authorization: {SECRET}\x7f"},
    {"FETCHER_PROXY": f"ftp://me:{SECRET}@proxy.example"},
    {"FETCHER_PROXY": f"http://me:{SECRET}@proxy.example:port"},
    {"REDIS_URL": f"rediss:/{SECRET}"},
    {"REDIS_URL": f"redis://:{SECRET}@127.0.0.1:port/0"},
    {"DATABASE_URL": f"postgres://me:{SECRET}@127.0.0.1:port/name"},
    {"DATABASE_URL": f"postgres://me:{SECRET}@127.0.0.1:1/name"},
    {"DATABASE_URL": f"postgres://me:{SECRET}@127.0.0.1:1/name?sslmode=nonsense"},
]
"""Environments with which every command fails."""


@pytest.mark.parametrize("command", [["runs", "--traceback", "list"], ["migrate", "--traceback"]])
def test_command_that_fails_prints_no_secret(tmp_path: Path, command: list[str]) -> None:
    usual = {**os.environ, **ENVIRONMENT, "DJANGO_SETTINGS_MODULE": "settings.dev"}
    cases = [
        ({**usual, "DATABASE_URL": f"sqlite:///{tmp_path}/{number}.sqlite3", **wrong}, command)
        for number, wrong in enumerate(WRONG)
    ]
    for wrong, found in zip(WRONG, fork_each("from manage import main\nmain()", cases), strict=True):
        assert found.returncode == 1, f"{wrong} is wrong, and the command must say so"
        assert found.stderr
        assert SECRET not in found.stdout + found.stderr
