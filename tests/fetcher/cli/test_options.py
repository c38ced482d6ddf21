"""The fetch options of the commands."""

from __future__ import annotations

import argparse

import pytest
from django.core.management.base import CommandError, CommandParser
from django.test import override_settings

from fetcher.cli.options import OPTIONS, add_fetch_options, config_from
from fetcher.engine.config import CONFIG_FIELDS, FetchConfig


def parse(*arguments: str) -> FetchConfig:
    parser = CommandParser(called_from_command_line=False)
    add_fetch_options(parser)
    return config_from(vars(parser.parse_args(list(arguments))))


def test_without_options_the_defaults_hold():
    assert parse() == FetchConfig()


def test_every_option_sets_the_field_of_its_name():
    assert {option.field for option in OPTIONS} <= set(CONFIG_FIELDS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--concurrency", "7"), {"concurrency": 7}),
        (("--host-delay", "0.5"), {"host_delay": 0.5}),
        (("--max-body", "512KiB"), {"max_body": 512 * 1024}),
        (("--max-redirects", "0"), {"max_redirects": 0}),
        (("--host-failures", "0"), {"host_failures": 0}),
        (("--user-agent", "me/1"), {"user_agent": "me/1"}),
        (("--header", "A: 1", "--header", "B:  two "), {"headers": (("A", "1"), ("B", "two"))}),
    ],
)
def test_values_are_read(arguments, expected):
    assert parse(*arguments) == FetchConfig(**expected)


@override_settings(FETCHER_CONCURRENCY="9", FETCHER_HEADERS="A: 1", FETCHER_ALLOWED_NETWORKS="10.0.0.0/8")
def test_options_go_over_the_settings_and_lists_are_added_to():
    found = parse("--header", "B: 2", "--allow-network", "127.0.0.1:80")
    assert found.concurrency == 9
    assert found.headers == (("A", "1"), ("B", "2"))
    assert [str(network) for network in found.allowed_networks] == ["10.0.0.0/8", "127.0.0.1:80"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--deadline", "0"), "argument --deadline: must be a number of seconds, more than 0"),
        (("--max-attempts", "0"), "argument --max-attempts: must be a whole number of at least 1"),
        (("--concurrency", "10001"), "argument --concurrency: must be at most 10000"),
        (("--user-agent", "two\nlines"), "argument --user-agent: has a line break"),
    ],
)
def test_a_value_out_of_range_is_a_usage_error(arguments, text):
    with pytest.raises(CommandError) as raised:
        parse(*arguments)
    assert str(raised.value).startswith(text)
    assert raised.value.returncode == 2


@override_settings(FETCHER_CONCURRENCY="many")
def test_a_setting_that_cannot_be_read_is_an_error_with_its_name():
    with pytest.raises(CommandError, match="FETCHER_CONCURRENCY must be a whole number"):
        parse()


@override_settings(FETCHER_CONCURRENCY="0")
def test_a_setting_out_of_range_is_an_error_with_its_name():
    with pytest.raises(CommandError, match="FETCHER_CONCURRENCY must be a whole number of at least 1"):
        parse()


@override_settings(FETCHER_MAX_ATTEMPTS="6", FETCHER_MAX_BODY="5MiB")
def test_help_shows_the_defaults_that_hold():
    parser = CommandParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=300))
    add_fetch_options(parser)
    text = parser.format_help()
    assert "(default: 6)" in text
    assert "(default: 5MiB)" in text
