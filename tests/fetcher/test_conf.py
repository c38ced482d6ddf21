"""Settings by name, as Python values and as the environment's strings."""

from __future__ import annotations

import dataclasses
from dataclasses import Field, fields
from typing import Any

import pytest
from pytest_django import Settings

from fetcher import conf
from fetcher.api.asked import CONFIG_OPTIONS
from fetcher.checks import check_settings
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import CONFIG_FIELDS, ConfigError, FetchConfig, parse_duration
from fetcher.engine.transport import ConnectionOptions

STRINGS: dict[str, tuple[str, Any]] = {
    "concurrency": ("7", 7),
    "per_host": ("3", 3),
    "host_delay": ("1.5", 1.5),
    "max_attempts": ("2", 2),
    "connect_timeout": ("1", 1),
    "read_timeout": ("2", 2),
    "deadline": ("3", 3),
    "total_deadline": ("4", 4),
    "host_failures": ("0", 0),
    "max_body": ("512KiB", 2**19),
    "max_redirects": ("0", 0),
    "user_agent": ("me/1", "me/1"),
    "headers": ("A: 1\n\n B: 2\n", (("A", "1"), ("B", "2"))),
    "secret_headers": ("X-Token, X-Other", frozenset({"x-token", "x-other"})),
    "secret_parameters": ("ticket_no !key", frozenset({"ticket_no", "!key"})),
    "guarded_headers": ("X-Token, X-Other", frozenset({"x-token", "x-other"})),
    "headers_hosts": ("a.example, *.b.example:81", ("a.example", "*.b.example:81")),
    "allowed_networks": ("10.0.0.0/8, ::1/128", tuple(map(AllowedNetwork.parse, ("10.0.0.0/8", "::1/128")))),
    "backoff_base": ("0.1", 0.1),
    "backoff_max": ("5", 5),
    "max_retry_after": ("9", 9),
    "look_ahead": ("2", 2),
}
OWN: dict[str, tuple[str, Any]] = {
    "api_access": ("login", "login"),
    "api_max_urls": ("7", 7),
    "api_max_bytes": ("1KiB", 1024),
    "write_timeout": ("1.5", 1.5),
    "body_storage": ("large", "large"),
    "body_file_threshold": ("1MiB", 2**20),
    "spill_threshold": ("64KiB", 2**16),
    "spill_folder": ("/var/tmp", "/var/tmp"),
    "fanout_max_urls": ("5", 5),
    "fanout_deadline": ("1.5", 1.5),
    "fanout_max_bytes": ("1MiB", 2**20),
    "page_limit": ("10", 10),
    "list_environment": ("API_TOKEN, OTHER", frozenset({"API_TOKEN", "OTHER"})),
    "loopback_hosts": ("Trawl.test, b", frozenset({"trawl.test", "b"})),
    "grace": ("2.5", 2.5),
    "dispatcher": ("a.Cluster", "a.Cluster"),
    "run_workers": ("3", 3),
    "keep_body": ("no", False),
    "conditional": ("False", False),
    "database_patience": ("0", 0),
    "disk_reserve": ("1GiB", 2**30),
}
CONNECTIONS: dict[str, tuple[str, Any]] = {
    "transport": ("HTTPX", "httpx"),
    "http2": ("yes", True),
    "proxy": ("socks5h://user:word@gate:1080", "socks5h://user:word@gate:1080"),
    "ca_file": ("/etc/ca.pem", "/etc/ca.pem"),
    "client_cert": ("/etc/me.pem", "/etc/me.pem"),
    "client_key": ("/etc/key.pem", "/etc/key.pem"),
}


def test_every_option_is_in_the_table() -> None:
    assert set(STRINGS) == set(CONFIG_FIELDS)
    assert set(OWN) == {field.name for field in fields(conf.Settings)}
    assert set(CONNECTIONS) == {field.name for field in fields(ConnectionOptions)}


@pytest.mark.parametrize("name", STRINGS)
def test_an_option_is_read_from_a_string(settings: Settings, name: str) -> None:
    text, value = STRINGS[name]
    setattr(settings, f"FETCHER_{name.upper()}", text)

    assert getattr(conf.fetch_config(), name) == value


@pytest.mark.parametrize("name", OWN)
def test_so_is_a_setting_beside_them(settings: Settings, name: str) -> None:
    text, value = OWN[name]
    setattr(settings, f"FETCHER_{name.upper()}", text)

    assert getattr(conf.fetcher_settings(), name) == value


@pytest.mark.parametrize("name", CONNECTIONS)
def test_so_is_how_connections_are_made(settings: Settings, name: str) -> None:
    text, value = CONNECTIONS[name]
    settings.FETCHER_CLIENT_CERT = "/etc/me.pem"  # a key needs one
    setattr(settings, f"FETCHER_{name.upper()}", text)

    assert getattr(conf.connection_options(), name) == value


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("concurrency", 7, 7),
        ("host_delay", 1, 1),
        ("headers", (("A", "1"),), (("A", "1"),)),
        ("headers", {"A": "1"}, (("A", "1"),)),
        ("headers", [["A", "1"]], (("A", "1"),)),
        ("secret_headers", ["X-Token"], frozenset({"x-token"})),
        ("secret_headers", {"X-Token"}, frozenset({"x-token"})),
        ("allowed_networks", ["10.0.0.0/8"], (AllowedNetwork.parse("10.0.0.0/8"),)),
        ("allowed_networks", (), ()),
    ],
)
def test_python_values_are_taken_as_well(settings: Settings, name: str, value: Any, read: Any) -> None:
    setattr(settings, f"FETCHER_{name.upper()}", value)

    assert getattr(conf.fetch_config(), name) == read


def test_an_override_goes_before_the_setting(settings: Settings) -> None:
    settings.FETCHER_CONCURRENCY = "7"

    assert conf.fetch_config({"concurrency": 5}).concurrency == 5
    assert conf.fetch_config({"per_host": 5}).concurrency == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", "many"),
        ("concurrency", "0"),
        ("concurrency", 0),
        ("concurrency", None),
        ("host_delay", "-1"),
        ("deadline", "nan"),
        ("max_body", "10 stones"),
        ("headers", "no colon"),
        ("headers", "Host: x"),
        ("headers", 7),
        ("headers", ["A: 1"]),
        ("user_agent", "a\nb"),
        ("user_agent", 7),
        ("allowed_networks", "not/a/network"),
        ("allowed_networks", 7),
        ("secret_headers", 7),
        ("api_access", "everybody"),
        ("api_access", True),
        ("fanout_max_urls", "0"),
        ("fanout_deadline", "0"),
        ("page_limit", -1),
        ("body_file_threshold", "big"),
        ("body_storage", 7),
        ("spill_threshold", "some"),
        ("spill_threshold", -1),
        ("spill_folder", 7),
        ("database_patience", "-1"),
        ("database_patience", "inf"),
        ("disk_reserve", "some"),
        ("disk_reserve", -1),
        ("transport", "carrier pigeon"),
        ("http2", "2"),
        ("http2", 2),
        ("proxy", "gate:3128"),
        ("proxy", "ftp://gate"),
        ("proxy", "http://gate/path"),
        ("proxy", "http://gate:0"),
        ("proxy", "http://gate:port"),
        ("proxy", 7),
        ("client_key", "/etc/key.pem"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_setting(settings: Settings, name: str, value: Any) -> None:
    setattr(settings, f"FETCHER_{name.upper()}", value)
    read = conf.fetch_config if name in STRINGS else conf.fetcher_settings
    read = conf.connection_options if name in CONNECTIONS else read

    with pytest.raises(ConfigError, match=f"FETCHER_{name.upper()} ") as caught:
        read()
    assert caught.value.name == name


def test_a_mistake_in_an_override_names_no_setting(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"^must be"):
        conf.fetch_config({"concurrency": 0})


def test_a_header_without_a_colon_is_not_repeated(settings: Settings) -> None:
    settings.FETCHER_HEADERS = "Authorization s3cret"

    with pytest.raises(ConfigError) as caught:
        conf.fetch_config()
    assert "s3cret" not in str(caught.value)


def test_the_operators_secrets_are_guarded_in_a_callers_run(settings: Settings) -> None:
    settings.FETCHER_HEADERS = "Authorization: Bearer s3cret\nA: 1\nB: env:TOKEN"
    config = conf.callers_config()
    assert config.guarded_headers == {"authorization", "b"}
    assert conf.fetch_config().guarded_headers == frozenset()


def test_a_host_pattern_that_cannot_be_read_is_named(settings: Settings) -> None:
    settings.FETCHER_HEADERS_HOSTS = "https://a.example/"
    with pytest.raises(ConfigError, match=r"FETCHER_HEADERS_HOSTS must be hosts such as"):
        conf.fetch_config()


def test_every_number_that_callers_may_choose_has_a_ceiling() -> None:
    made = conf.fetch_config()
    numbers = {name for name in CONFIG_OPTIONS if isinstance(getattr(made, name), int | float)} | {"split_hosts"}
    assert {field.name for field in fields(conf.Ceilings)} == numbers - {"host_failures"}  # of which 0 means never


@pytest.mark.parametrize("field", fields(conf.Ceilings), ids=lambda field: str(field.name))
def test_ceiling_is_read_from_its_setting_and_checked(settings: Settings, field: Field[Any]) -> None:
    setattr(settings, f"FETCHER_CEILING_{field.name.upper()}", "7")
    assert getattr(conf.ceilings(), field.name) == 7
    setattr(settings, f"FETCHER_CEILING_{field.name.upper()}", "-1")
    with pytest.raises(ConfigError, match=f"^FETCHER_CEILING_{field.name.upper()} must be"):
        conf.ceilings()
    assert [message.id for message in check_settings()] == ["fetcher.E001"]


def test_defaults_of_all_options_are_below_their_ceilings() -> None:
    made = {**dataclasses.asdict(FetchConfig()), "split_hosts": 1}
    conf.Ceilings().check(made, FetchConfig(max_attempts=1, max_body=1))


DURATIONS = [name for name, read in conf._READERS.items() if read is parse_duration]


@pytest.mark.parametrize("name", DURATIONS)
def test_every_setting_that_is_a_duration_takes_units(name: str) -> None:
    assert conf.read_value(name, "90s") == 90
    assert conf.read_value(name, "500ms") == 0.5
    assert conf.read_value(name, 90) == 90


def test_every_float_setting_is_a_duration() -> None:
    kinds = (FetchConfig, conf.Settings, ConnectionOptions)
    assert {field.name for kind in kinds for field in fields(kind) if field.type == "float"} == set(DURATIONS)
