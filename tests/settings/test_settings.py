"""What the settings modules refuse, and how ``manage.py`` says so."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from settings.base import BASE_DIR, database
from tests.support.processes import ROOT

SECRET = {"DJANGO_SETTINGS_MODULE": "settings.production", "SECRET_KEY": "k" * 60}


def check(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


class TestProduction:
    @pytest.mark.parametrize(
        ("env", "line"),
        [
            ({}, "SECRET_KEY must be set in production; make one with: openssl rand -base64 48"),
            ({"SECRET_KEY": "k" * 60}, "ALLOWED_HOSTS must be set in production"),
            ({"SECRET_KEY": "k" * 60, "ALLOWED_HOSTS": " , "}, "ALLOWED_HOSTS must be set in production"),
        ],
    )
    def test_refuses_to_start_without_what_a_server_needs(self, env, line):
        found = check(DJANGO_SETTINGS_MODULE="settings.production", **env)
        assert found.returncode == 1
        assert found.stderr.startswith(f"The settings cannot be used: {line}")
        assert len(found.stderr.splitlines()) == 1

    def test_starts_with_it(self):
        assert check(**SECRET, ALLOWED_HOSTS="trawl.example.org, www.example.org").returncode == 0


class TestDevelopment:
    def test_needs_nothing(self):
        assert check().returncode == 0


class TestDatabaseUrl:
    @pytest.mark.parametrize(
        "url", ["nonsense", "oracle://u:s3cret@h/n", "postgres://u:s3cret@h:port/n", "foo://s3cret"]
    )
    def test_that_cannot_be_read_is_refused_without_repeating_it(self, url):
        with pytest.raises(ImproperlyConfigured, match="DATABASE_URL cannot be read; write sqlite:///") as raised:
            database(url)
        assert "s3cret" not in str(raised.value)

    def test_that_is_refused_is_one_line(self):
        found = check(DATABASE_URL="nonsense")
        assert (found.returncode, len(found.stderr.splitlines())) == (1, 1)

    @pytest.mark.parametrize(
        ("url", "name"), [("sqlite:///db.sqlite3", str(BASE_DIR / "db.sqlite3")), ("sqlite:////a/b", "/a/b")]
    )
    def test_of_a_file_is_relative_to_the_project(self, url, name):
        assert database(url)["NAME"] == name

    def test_of_a_server(self):
        found = database("postgres://me:pass%40word@db.example:6432/trawl")
        assert (found["USER"], found["PASSWORD"], found["HOST"], found["PORT"]) == (
            "me",
            "pass@word",
            "db.example",
            6432,
        )
        assert found["OPTIONS"]["connect_timeout"] == 10


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite:////srv/a#b.sqlite3", "write %23 for #, %3F for ?"),
        ("sqlite:///a?b.sqlite3", "write %23 for #, %3F for ?"),
        ("postgres://me:s3#cret@db.example:5432/trawl", "write %23 for #"),
        ("postgres://me:s3/cret@db.example:5432/trawl", "%2F for /"),
        ("postgres://me:s3?cret@db.example:5432/trawl", "%3F for ?"),
    ],
)
def test_a_database_url_that_a_character_cuts_is_refused_with_the_reason(url: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        database(url)
    assert text in str(raised.value)
    assert "cret" not in str(raised.value)


def test_characters_that_cut_a_database_url_may_be_written_as_advised() -> None:
    assert database("sqlite:////srv/a%23b%3Fc.sqlite3")["NAME"] == "/srv/a#b?c.sqlite3"
    found = database("postgres://me:s3%23%2F%3Fcret@db.example:5432/trawl?application_name=a@b")
    assert (found["PASSWORD"], found["HOST"], found["NAME"]) == ("s3#/?cret", "db.example", "trawl")
    assert found["OPTIONS"]["application_name"] == "a@b"
    assert database("postgres:///trawl?host=/run/postgresql&user=a@b")["OPTIONS"]["host"] == "/run/postgresql"
