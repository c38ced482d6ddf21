"""The fetch options of the commands."""

from __future__ import annotations

import argparse

import pytest
from django.core.management.base import CommandError, CommandParser
from django.test import override_settings

from fetcher.cli.options import OPTIONS, add_fetch_options, add_request_options, config_from, options_from
from fetcher.engine.config import CONFIG_FIELDS, FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.management.commands.fetch_urls import Command
from fetcher.options import MAX_DATA, RunOptions


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
        (("--host-delay", "500ms"), {"host_delay": 0.5}),
        (("--deadline", "1h", "--total-deadline", "2h"), {"deadline": 3600, "total_deadline": 7200}),
        (("--read-timeout", "5s", "--connect-timeout", "1.5s"), {"read_timeout": 5, "connect_timeout": 1.5}),
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


@override_settings(FETCHER_CONCURRENCY="9")
def test_options_go_over_another_base_where_there_is_one():
    parser = CommandParser(called_from_command_line=False)
    add_fetch_options(parser)
    base = FetchConfig(deadline=5, per_host=3, headers=(("A", "1"), ("B", "1")))
    found = config_from(vars(parser.parse_args(["--per-host", "4", "--header", "a: 2"])), base)
    assert found == FetchConfig(deadline=5, per_host=4, headers=(("B", "1"), ("a", "2")))


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
    assert "(default: 600s)" in text


def test_a_duration_that_cannot_be_read_is_named_with_an_example():
    parser = CommandParser(called_from_command_line=False)
    add_fetch_options(parser)
    with pytest.raises(CommandError, match="--deadline: must be a duration such as 500ms, 30s, 5m or 1h, not 'soon'"):
        parser.parse_args(["--deadline", "soon"])


def request(*arguments: str) -> RunOptions:
    parser = CommandParser(called_from_command_line=False)
    add_request_options(parser)
    return options_from(vars(parser.parse_args(list(arguments))))


class TestRequestOptions:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((), {}),
            (("--method", "delete"), {"method": "DELETE"}),
            (("--method", "PROPFIND"), {"method": "PROPFIND"}),
            (("--data", "a=é"), {"data": "a=é".encode()}),
            (("--data", ""), {"data": b""}),
            (("--data", "caf\udce9"), {"data": b"caf\xe9"}),
            (("--extract", "a.b"), {"extract": "a.b"}),
            (("--no-body",), {"keep_body": False}),
            (("--no-conditional",), {"conditional": False}),
        ],
    )
    def test_are_read(self, arguments, expected):
        assert request(*arguments) == RunOptions(**expected)

    def test_data_of_a_file_is_sent_as_it_is(self, tmp_path):
        (tmp_path / "body").write_bytes(b"\x00\r\n\xff\n")
        assert request("--data", f"@{tmp_path}/body").data == b"\x00\r\n\xff\n"

    @override_settings(FETCHER_KEEP_BODY="no", FETCHER_CONDITIONAL=False)
    def test_settings_are_the_defaults(self):
        assert request() == RunOptions(keep_body=False, conditional=False)
        assert request("--body", "--conditional") == RunOptions()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((), RunOptions(keep_body=False, conditional=False, extract="a")),
            (("--body", "--extract", "b"), RunOptions(keep_body=True, conditional=False, extract="b")),
        ],
    )
    def test_what_is_not_given_is_as_the_base_has_it(self, arguments, expected):
        parser = CommandParser(called_from_command_line=False)
        add_request_options(parser)
        base = RunOptions(keep_body=False, conditional=False, extract="a")
        assert options_from(vars(parser.parse_args(list(arguments))), base) == expected

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--data", "@"), "argument --data: names no file after @"),
            (("--data", "@/no/such/file"), "argument --data: /no/such/file: cannot be read: no such file or directory"),
            (("--data", "@/"), "argument --data: /: cannot be read: is a directory"),
            (("--data", "@a\x00b"), "argument --data: 'a\\x00b': cannot be read: this is no path"),
            (("--data", "@/dev/zero"), "argument --data: is longer than 65536 bytes"),
            (("--data", "x" * (MAX_DATA + 1)), "argument --data: is longer than 65536 bytes"),
            (("--data", "x", "--method", "HEAD"), "argument --data: cannot be sent: a HEAD request has no body"),
            (("--data", "", "--method", "TRACE"), "argument --data: cannot be sent: a TRACE request has no body"),
        ],
    )
    def test_what_cannot_be_sent_is_a_usage_error(self, arguments, text):
        with pytest.raises(CommandError) as raised:
            request(*arguments)
        assert str(raised.value).startswith(text)
        assert raised.value.returncode == 2

    def test_standard_input_cannot_give_list_and_body(self):
        parser = CommandParser(called_from_command_line=False)
        add_request_options(parser)
        with pytest.raises(CommandError, match="standard input cannot give both"):
            options_from(vars(parser.parse_args(["--data", "@-"])), stdin_is_source=True)


class TestUserEnv:
    def test_is_a_reference_in_the_header(self):
        assert both("--user-env", "LOGIN").headers == (("Authorization", EnvReference("LOGIN", basic=True)),)

    @override_settings(FETCHER_HEADERS="authorization: env:TOKEN\nA: 1")
    def test_goes_over_the_settings_header(self):
        assert both("--user-env", "LOGIN").headers == (("A", "1"), ("Authorization", EnvReference("LOGIN", basic=True)))

    def test_clashes_with_a_header_of_its_own(self):
        with pytest.raises(CommandError, match="--user-env: cannot be used together") as raised:
            both("--user-env", "LOGIN", "--header", "authorization: x")
        assert raised.value.returncode == 2


def both(*arguments: str) -> FetchConfig:
    parser = CommandParser(called_from_command_line=False)
    add_fetch_options(parser)
    add_request_options(parser)
    return config_from(vars(parser.parse_args(list(arguments))))


# What each option cannot be, told by argparse with the option's name before anything is begun.
UNREADABLE = [
    *[(flag, value) for flag in ("--concurrency", "--per-host", "--max-attempts", "--host-failures", "--max-redirects")
      for value in ("", "x", "1.5", "nan", "1e3", "0x10", "9" * 30)],
    *[(flag, value) for flag in ("--host-delay", "--connect-timeout", "--read-timeout", "--deadline",
                                 "--total-deadline") for value in ("", "x", "nan", "inf", "-inf", "1 s")],
    *[("--max-body", value) for value in ("", "nan", "10 stone", "-5", "1e9", "0x10", "10MiB MiB")],
    *[("--header", value) for value in ("s3cret", ": s3cret", "A B: s3cret", "A: s3cret\nB: 2", "A: s3cret\r",
                                        "A: s3cret\x00", "Host: s3cret", "Content-Length: 5", "A\n: s3cret",
                                        "Ä: s3cret", "A: \u2028s3cret", "Transfer-Encoding: chunked", "A: env:",
                                        "A: basic-env:")],
    *[("--allow-network", value) for value in ("", "x", "10.0.0.0/33", "10.0.0.1/8", "127.0.0.1:99999", "::1/129")],
    *[("--method", value) for value in ("", "a b", "GET ", "GET\n", "fetch", "CONNECT", "connect", "G\x00T", "É",
                                        "GET:", "X" * 33)],
    *[("--extract", value) for value in ("", "a[", "a b", "[", "&", "`", "a" * 1001, "(" * 500, "nope(@")],
    *[("--user-env", value) for value in ("", "user:s3cret", "A B", "A=B", "1A", "A\x00", "$A", "A" * 201)],
    *[("--output", "xml"), ("--progress", "dots"), ("--format", "xls"), ("--label",), ("--data",), ("--file",)],
    *[("--no-body=1",), ("--conditional=maybe",), ("--plan=1",), ("--exit-zero=1",), ("--unknown",)],
]  # fmt: skip


@pytest.mark.parametrize("arguments", UNREADABLE, ids=lambda arguments: " ".join(arguments)[:40])
def test_what_cannot_be_read_is_a_usage_error_that_names_the_option(arguments, capsys):
    parser = Command().create_parser("manage.py", "fetch_urls")
    parser.called_from_command_line = True
    first, *rest = arguments
    with pytest.raises(SystemExit) as raised:
        parser.parse_args(["http://a.example/", f"{first}={rest[0]}" if rest else first])
    error = capsys.readouterr().err.splitlines()[-1]
    assert raised.value.code == 2
    assert first.partition("=")[0] in error
    assert "s3cret" not in error


OUT_OF_RANGE = [
    *[(flag, value) for flag in ("--concurrency", "--per-host", "--max-attempts", "--max-body") for value in ("0",)],
    *[(flag, "-1") for flag in ("--concurrency", "--per-host", "--max-attempts", "--host-failures", "--max-redirects",
                                "--host-delay", "--deadline")],
    *[(flag, "0") for flag in ("--connect-timeout", "--read-timeout", "--deadline", "--total-deadline")],
    ("--concurrency", "10001"), ("--user-agent", "a\nb"), ("--user-agent", "a\x00"), ("--user-agent", "\u2028"),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "value"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_a_usage_error_that_names_the_option(flag, value):
    with pytest.raises(CommandError, match=f"argument {flag}: ") as raised:
        both(f"{flag}={value}")
    assert raised.value.returncode == 2
