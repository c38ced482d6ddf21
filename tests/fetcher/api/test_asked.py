"""The body of ``POST runs/``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fetcher.api.asked import CONFIG_OPTIONS, RUN_OPTIONS, read_asked
from fetcher.api.errors import Problem
from fetcher.cli.options import OPTIONS
from fetcher.conf import callers_config, ceilings, fetch_config
from fetcher.engine.config import CONFIG_FIELDS, ConfigError
from fetcher.engine.references import EnvReference
from fetcher.engine.urls import parse_url

URL = "https://a.example/"


def read(**members: Any):
    return read_asked(json.dumps({"urls": [URL], **members}).encode())


def problem(body: bytes) -> Problem:
    with pytest.raises(Problem) as raised:
        read_asked(body)
    return raised.value


def test_the_options_are_those_of_the_command_but_for_what_is_the_operators():
    assert {option.field for option in OPTIONS} | {"headers"} == set(CONFIG_OPTIONS)
    assert set(CONFIG_OPTIONS) < set(CONFIG_FIELDS)
    assert set(RUN_OPTIONS) == {"method", "data", "extract", "keep_body", "conditional", "split_hosts"}


class TestEntries:
    def test_have_the_form_of_json_lines(self):
        asked = read(urls=[URL, {"url": URL, "method": "PUT", "headers": {"A": "1"}, "body": "x", "label": 7}])
        first, second = (entry.target for entry in asked.entries)
        assert (first.method, first.url) == ("GET", URL)
        assert (second.method, second.headers, second.body, second.label) == ("PUT", (("A", "1"),), b"x", "7")

    def test_that_are_no_targets_say_why_and_where_without_their_secrets(self):
        asked = read(urls=[URL, "https://me:hunter2@a.example/", 5, {"url": URL, "colour": "red"}])
        assert [(entry.line, entry.value) for entry in asked.entries if entry.target is None] == [
            (2, "https://***@a.example/"), (3, "5"), (4, URL),
        ]  # fmt: skip
        assert all(entry.reason for entry in asked.entries[1:])

    def test_are_of_a_bounded_size(self):
        [entry] = read(urls=[{"url": URL, "body": "x" * 2**20}]).entries
        assert entry.reason == "longer than 1048576 bytes"


class TestOptions:
    def test_that_are_not_given_are_as_the_settings_have_them(self, settings):
        settings.FETCHER_PER_HOST, settings.FETCHER_KEEP_BODY = 3, False
        asked = read(options={"method": None})
        assert (asked.config, asked.options.keep_body, asked.options.method) == (callers_config(), False, None)

    def test_are_read_as_the_commands(self):
        asked = read(
            label="x",
            options={"per_host": 2, "max_body": "1KiB", "headers": {"A": "1"}, "data": "é", "extract": "a.b"},
        )
        assert (asked.config.per_host, asked.config.max_body, asked.config.headers) == (2, 1024, (("A", "1"),))
        assert (asked.options.data, asked.options.extract, asked.label) == ("é".encode(), "a.b", "x")

    def test_misspelt_one_is_named_with_the_one_that_may_be_meant(self):
        found = problem(json.dumps({"urls": [URL], "options": {"dead_line": 5}}).encode())
        assert found.detail.endswith("; did you mean deadline?")

    def test_durations_are_seconds_or_have_units(self):
        config = read(options={"deadline": "1m", "read_timeout": "500ms", "host_delay": 2}).config
        assert (config.deadline, config.read_timeout, config.host_delay) == (60, 0.5, 2)

    def test_headers_are_on_top_of_those_of_the_settings(self, settings):
        settings.FETCHER_HEADERS = {"A": "1", "B": "2"}
        assert dict(read(options={"headers": [["b", "3"]]}).config.headers) == {"A": "1", "b": "3"}

    def test_the_operators_secret_headers_are_guarded_and_the_callers_own_are_not(self, settings):
        settings.FETCHER_HEADERS = {"Authorization": "Bearer s3cret", "Cookie": "a=1", "A": "1"}
        config = read(options={"headers": {"cookie": "b=2"}}).config
        assert config.guarded_headers == {"authorization"}
        assert config.headers_for(parse_url("https://a.example/")) == (("A", "1"), ("cookie", "b=2"))

    def test_headers_may_name_the_variables_that_lists_may(self, settings):
        settings.FETCHER_LIST_ENVIRONMENT = "TOKEN"
        assert read(options={"headers": {"A": "env:TOKEN"}}).config.headers == (("A", EnvReference("TOKEN")),)

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("per_host", 0, "per_host must be a whole number of at least 1, not 0"),
            ("per_host", "many", "per_host must be a whole number, not 'many'"),
            ("per_host", True, "per_host must be a whole number of at least 1, not True"),
            ("deadline", -1, "deadline must be a number of seconds, more than 0, not -1"),
            ("deadline", "soon", "deadline must be a duration such as 500ms, 30s, 5m or 1h, not 'soon'"),
            ("user_agent", 5, "user_agent must be text, not 5"),
            ("headers", {"A": "env:HOME"}, "headers the value of A asks for the environment variable HOME"),
            ("headers", ["A"], "headers must be pairs"),
            ("headers", 5, "headers must be pairs"),
            ("method", "a b", "method 'a b' is no method"),
            ("method", 5, "method must be text, not 5"),
            ("data", {"a": 1}, "data must be text, not {'a': 1}"),
            ("data", "x" * 65_537, "data is longer than 65536 bytes"),
            ("extract", "a[", "extract"),
            ("keep_body", "no", "keep_body must be true or false, not 'no'"),
            ("split_hosts", 65, "split_hosts must be at most 64, not 65"),
            ("split_hosts", "2", "split_hosts must be a whole number of at least 1, not '2'"),
            ("allowed_networks", ["10.0.0.0/8"], "allowed_networks is the operator's to say"),
            ("colour", "red", "colour is no option; there are concurrency, per_host"),
            ("dead_line", 5, "dead_line is no option; there are concurrency"),
        ],
    )  # fmt: skip
    def test_that_cannot_be_used_are_named(self, name, value, text):
        found = problem(json.dumps({"urls": [URL], "options": {name: value}}).encode())
        assert (found.status, found.members) == (400, {"pointer": f"#/options/{name}"})
        assert found.detail.startswith(text)


class TestCeilings:
    @pytest.mark.parametrize(
        ("name", "value", "most"),
        [
            ("concurrency", 501, "500"), ("per_host", 33, "32"), ("host_delay", 60.5, "60"), ("max_attempts", 11, "10"),
            ("connect_timeout", 61, "60"), ("read_timeout", 301, "300"), ("deadline", 601, "600"),
            ("total_deadline", 3601, "3600"), ("max_redirects", 31, "30"), ("max_body", "101MiB", "104857600"),
            ("split_hosts", 9, "8"),
        ],
    )  # fmt: skip
    def test_option_above_its_ceiling_is_refused_with_the_setting_that_raises_it(self, name, value, most, settings):
        found = problem(json.dumps({"urls": [URL], "options": {name: value}}).encode())
        setting = f"FETCHER_CEILING_{name.upper()}"
        assert found.members == {"pointer": f"#/options/{name}"}
        assert found.detail.startswith(f"{name} must be at most {most}, not ")
        assert setting in found.detail
        setattr(settings, setting, value)
        read(options={name: value})

    @pytest.mark.parametrize(
        "options",
        [{"host_delay": 1e18}, {"max_attempts": 10**17}, {"per_host": 10**9}, {"max_body": 10**18},
         {"read_timeout": 1e18}, {"deadline": 1e308}, {"host_failures": 10**18}],
    )  # fmt: skip
    def test_no_ceiling_lets_a_value_through_that_overflows(self, options, settings):
        [name] = options
        assert problem(json.dumps({"urls": [URL], "options": options}).encode()).status == 400
        if name != "host_failures":
            setattr(settings, f"FETCHER_CEILING_{name.upper()}", options[name])
            with pytest.raises(ConfigError, match=f"FETCHER_CEILING_{name.upper()} must be at most"):
                ceilings()

    def test_what_the_settings_allow_anyway_is_allowed(self, settings):
        settings.FETCHER_MAX_BODY = "1GiB"
        assert read(options={"max_body": 2**30}).config.max_body == 2**30
        assert problem(json.dumps({"urls": [URL], "options": {"max_body": 2**30 + 1}}).encode()).status == 400

    def test_command_line_is_bound_by_none(self, settings):
        settings.FETCHER_CEILING_MAX_BODY = "1KiB"
        assert fetch_config({"max_body": 2**30}).max_body == 2**30


class TestTheBody:
    @pytest.mark.parametrize(
        ("body", "pointer", "text"),
        [
            (b"", "#", "The body is not JSON: "),
            (b"{", "#", "The body is not JSON: "),
            (b"\xff", "#", "The body is not JSON: "),
            (b"[]", "#", "The body must be an object such as"),
            (b'"https://a.example/"', "#", "The body must be an object such as"),
            (b"{}", "#/urls", "urls is missing"),
            (b'{"urls": []}', "#/urls", "urls is empty"),
            (b'{"urls": "https://a.example/"}', "#/urls", "urls must be a list of URLs"),
            (b'{"urls": ["x"], "label": 5}', "#/label", "label must be text"),
            (b'{"urls": ["x"], "label": "%s"}' % (b"x" * 201), "#/label", "label must be at most 200 characters"),
            (b'{"urls": ["x"], "label": "a\\nb"}', "#/label", "label has a line break"),
            (b'{"urls": ["x"], "options": []}', "#/options", "options must be an object"),
            (b'{"urls": ["x"], "colour": 1}', "#/colour", "colour is no member of the body; there are urls, label"),
            (b'{"job": "news"}', "#/job", "job is no member of the body; there are urls, label, options; a saved job"),
        ],
    )  # fmt: skip
    def test_that_cannot_be_used_is_a_400_with_a_pointer(self, body, pointer, text):
        found = problem(body)
        assert (found.status, found.members["pointer"]) == (400, pointer)
        assert found.detail.startswith(text)

    def test_with_too_many_urls_is_a_413_that_says_what_to_do(self, settings):
        settings.FETCHER_API_MAX_URLS = 2
        found = problem(json.dumps({"urls": [URL] * 3}).encode())
        assert (found.status, found.members["pointer"]) == (413, "#/urls")
        assert "at most 2 can be given" in found.detail
        assert "fetch_urls --file PATH --queue" in found.detail
