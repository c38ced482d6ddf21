"""Mistakes in the settings are found before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection, connections
from pytest_django import Settings

from fetcher.checks import _sqlite, check_names, check_settings, has_wal_reset_bug
from fetcher.secrets import PUBLISHED_KEY


def test_the_settings_of_this_project_are_fine() -> None:
    assert check_settings() == []


@pytest.mark.parametrize(
    ("name", "value"), [("CONCURRENCY", "many"), ("CONCURRENCY", 0), ("PAGE_LIMIT", "x"), ("HEADERS", 7)]
)
def test_a_value_that_cannot_be_used_is_e001_and_named(settings: Settings, name: str, value: Any) -> None:
    setattr(settings, f"FETCHER_{name}", value)
    (found,) = [message for message in run_checks(tags=["fetcher"]) if message.id == "fetcher.E001"]

    assert found.msg.startswith(f"FETCHER_{name} ")
    assert found.hint


def test_options_and_other_settings_are_both_looked_at(settings: Settings) -> None:
    settings.FETCHER_CONCURRENCY = "many"
    settings.FETCHER_PAGE_LIMIT = "x"

    assert len(check_settings()) == 2


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("FETCHER_CONCURENCY", "; did you mean FETCHER_CONCURRENCY?"),
        ("FETCHER_CEILING_MAX_BODDY", "; did you mean FETCHER_CEILING_MAX_BODY?"),
        ("FETCHER_XYZ", ""),
    ],
)
def test_an_unknown_setting_or_variable_is_w013_and_its_value_is_not_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    assert check_names() == []
    setattr(settings, name, "s3cret")
    [found] = check_names()
    assert (found.id, found.msg) == ("fetcher.W013", f"{name} is not a setting of Trawl and has no effect{advice}")
    assert "s3cret" not in str(found)
    delattr(settings, name)
    monkeypatch.setenv(name, "s3cret")
    assert check_names() == [found]


def deployed(name: str) -> list[CheckMessage]:
    """Return the messages of this id that ``check --deploy`` prints."""
    return [message for message in run_checks(tags=["fetcher"], include_deployment_checks=True) if message.id == name]


def test_database_warnings_are_for_deployment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 60)

    assert "fetcher.W005" not in [message.id for message in run_checks(tags=["fetcher"])]
    assert deployed("fetcher.W005")


def test_a_published_secret_key_is_e008(settings: Settings) -> None:
    settings.SECRET_KEY = PUBLISHED_KEY
    (found,) = [message for message in run_checks(tags=["fetcher"]) if message.id == "fetcher.E008"]

    assert "protects no secret" in found.msg
    assert "openssl rand" in str(found.hint)


def test_a_storage_that_does_not_exist_is_e002(settings: Settings) -> None:
    settings.FETCHER_BODY_STORAGE = "attic"
    (found,) = [message for message in run_checks(tags=["fetcher"]) if message.id == "fetcher.E002"]

    assert "attic" in found.msg
    assert "default" in found.hint


@pytest.mark.parametrize("kind", ["nothing", "a file"])
def test_a_folder_for_large_bodies_that_is_none_is_e004(settings: Settings, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "spill"
    settings.FETCHER_SPILL_FOLDER = str(folder)
    if kind == "a file":
        folder.touch()
    (found,) = [message for message in run_checks(tags=["fetcher"]) if message.id == "fetcher.E004"]

    assert str(folder) in found.msg
    assert found.hint


def test_one_that_is_there_is_fine(settings: Settings, tmp_path: Path) -> None:
    settings.FETCHER_SPILL_FOLDER = str(tmp_path)

    assert "fetcher.E004" not in [message.id for message in run_checks(tags=["fetcher"])]


@pytest.mark.parametrize(
    ("access", "debug", "hosts", "warned"),
    [
        ("loopback", False, ["trawl.example.org"], True),
        ("loopback", False, ["*"], True),
        ("loopback", False, ["localhost", "127.0.0.1", "[::1]"], True),
        ("loopback", False, [], True),
        ("loopback", True, ["trawl.example.org"], True),
        ("loopback", True, ["localhost", "127.0.0.1", "[::1]"], False),
        ("login", False, ["trawl.example.org"], False),
    ],
)
def test_loopback_access_with_settings_of_a_server_is_w004_at_every_command(
    settings: Settings, access: str, debug: bool, hosts: list[str], warned: bool
) -> None:
    settings.FETCHER_API_ACCESS, settings.DEBUG, settings.ALLOWED_HOSTS = access, debug, hosts

    found = [message.id for message in run_checks(tags=["fetcher"])]
    assert ("fetcher.W004" in found) is warned


@pytest.mark.parametrize(
    ("version", "buggy"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True), ((3, 50, 6), True),
        ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False), ((4, 0, 0), False),
    ],
)  # fmt: skip
def test_versions_with_the_wal_reset_bug(version: tuple[int, ...], buggy: bool) -> None:
    assert has_wal_reset_bug(version) is buggy


OURS = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
}


@pytest.mark.parametrize(
    ("options", "version", "ids"),
    [
        (OURS, (3, 51, 3), set()),
        (OURS, (3, 40, 1), {"W001"}),
        ({}, (3, 40, 1), {"W002", "W003", "W006"}),
        ({**OURS, "timeout": 5}, (3, 51, 3), {"W006"}),
        ({**OURS, "init_command": "pragma journal_mode = wal"}, (3, 51, 3), set()),
        ({**OURS, "init_command": ""}, (3, 40, 1), {"W002"}),
        ({**OURS, "transaction_mode": "DEFERRED"}, (3, 51, 3), {"W003"}),
        ({**OURS, "transaction_mode": "exclusive"}, (3, 51, 3), set()),
    ],
)
def test_each_weakness_of_a_sqlite_is_named_with_what_to_do(
    options: dict[str, Any], version: tuple[int, ...], ids: set[str]
) -> None:
    found = list(_sqlite({"OPTIONS": options}, version))

    assert {message.id for message in found} == {f"fetcher.{name}" for name in ids}
    assert all(message.hint for message in found)


@pytest.mark.parametrize(("age", "warned"), [(0, False), (60, True), (None, True)])
def test_connections_kept_under_asgi_are_w005(monkeypatch: pytest.MonkeyPatch, age: int | None, warned: bool) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", age)

    assert bool(deployed("fetcher.W005")) is warned


@pytest.mark.parametrize(
    ("headers", "hosts", "says"),
    [
        ("Authorization: env:TOKEN", "", "send to no host"),
        ("Authorization: env:TOKEN", "*", "send to every host that a caller names"),
        ("Authorization: env:TOKEN", "a.example", None),
        ("Accept-Language: en", "", None),
    ],
)
def test_secret_headers_without_named_hosts_are_w012(
    settings: Settings, headers: str, hosts: str, says: str | None
) -> None:
    settings.FETCHER_HEADERS, settings.FETCHER_HEADERS_HOSTS = headers, hosts
    found = deployed("fetcher.W012")
    assert [says in message.msg for message in found if says] == [True] * len(found)
    assert bool(found) is (says is not None)
