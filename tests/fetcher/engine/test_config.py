"""What can be set, what is refused, and how text is read."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fetcher.engine.config import (
    MAX_HEADERS,
    MAX_SECONDS,
    MAX_USER_AGENT,
    ConfigError,
    FetchConfig,
    check_environment,
    check_header,
    operator_value,
    parse_count,
    parse_duration,
    parse_header,
    parse_size,
    resolve_header,
)
from fetcher.engine.references import EnvReference, HeaderValue


class TestFetchConfig:
    def test_the_defaults_are_those_agreed(self) -> None:
        made = FetchConfig()

        assert (made.concurrency, made.per_host, made.host_delay, made.max_attempts) == (100, 8, 0, 4)
        assert (made.connect_timeout, made.read_timeout, made.deadline, made.total_deadline) == (10, 30, 60, 600)
        assert (made.host_failures, made.max_body, made.max_redirects) == (20, 10 * 2**20, 10)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, value) for name in ("concurrency", "per_host", "max_attempts", "max_body", "look_ahead")
              for value in (0, -1, 1.5, "8", None, True)),
            *((name, value) for name in ("host_failures", "max_redirects") for value in (-1, 0.5, "8", None, False)),
            *((name, value) for name in ("host_delay", "backoff_base", "backoff_max", "max_retry_after")
              for value in (-1, float("nan"), float("inf"), "1", None, True)),
            *((name, value) for name in ("connect_timeout", "read_timeout", "deadline", "total_deadline")
              for value in (0, -1, float("nan"), float("inf"), "1", None, True)),
            *((name, value) for name in ("concurrency", "per_host", "max_attempts", "max_body", "look_ahead",
              "host_failures", "max_redirects") for value in (10**18, 10**400)),
            *((name, value) for name in ("host_delay", "backoff_base", "backoff_max", "max_retry_after",
              "connect_timeout", "read_timeout", "deadline", "total_deadline")
              for value in (1e18, 1e308, 10**18, 10**400, MAX_SECONDS + 1)),
            ("concurrency", 10_001),
        ],
    )  # fmt: skip
    def test_values_out_of_range_are_refused_by_name(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match="must be") as caught:
            FetchConfig(**{name: value})

        assert caught.value.name == name

    def test_message_names_the_bound_and_a_shortened_value(self) -> None:
        with pytest.raises(ConfigError, match=r"^must be at most 604800, not 1e\+18$"):
            FetchConfig(read_timeout=1e18)
        with pytest.raises(ConfigError) as caught:
            FetchConfig(per_host=10**5000)
        assert len(str(caught.value)) < 200

    def test_largest_timeouts_overflow_in_neither_timers_nor_milliseconds(self) -> None:
        config = FetchConfig(connect_timeout=MAX_SECONDS, read_timeout=MAX_SECONDS, deadline=MAX_SECONDS)
        assert config.deadline * 1000 < 2**31
        asyncio.run(asyncio.wait_for(asyncio.sleep(0), config.deadline))

    @pytest.mark.parametrize(
        "fields", [{"headers": (("A", "x" * MAX_HEADERS),)}, {"user_agent": "x" * (MAX_USER_AGENT + 1)}]
    )
    def test_headers_and_user_agent_are_bounded(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="longer than"):
            FetchConfig(**fields)

    def test_repr_has_no_headers(self) -> None:
        assert "hunter2" not in repr(FetchConfig(headers=(("Authorization", "hunter2"),)))

    @pytest.mark.parametrize("name", ["host_failures", "max_redirects", "host_delay", "backoff_base", "backoff_max"])
    def test_zero_is_fine_where_it_means_none(self, name: str) -> None:
        assert getattr(FetchConfig(**{name: 0}), name) == 0  # type: ignore[arg-type]

    def test_headers_are_checked_and_the_user_agent_with_them(self) -> None:
        with pytest.raises(ConfigError):
            FetchConfig(headers=(("Bad Name", "x"),))
        with pytest.raises(ConfigError):
            FetchConfig(user_agent="a\nb")

    def test_it_does_not_change(self) -> None:
        with pytest.raises(FrozenInstanceError):
            FetchConfig().concurrency = 1  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("name", "value", "secret"),
        [
            ("Authorization", "x", True),
            ("COOKIE", "x", True),
            ("proxy-authorization", "x", True),
            ("X-Api-Key", "x", True),
            ("X-Color", "x", False),
            ("X-Color", EnvReference("TOKEN"), True),
            ("X-Color", "env:TOKEN", False),
            ("X-Color", None, True),
        ],
    )
    def test_what_is_secret(self, name: str, value: HeaderValue, secret: bool) -> None:
        assert FetchConfig().is_secret(name, value) is secret


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("4096", 4096), ("512KiB", 2**19), ("10MiB", 10 * 2**20), ("1GiB", 2**30), ("10MB", 10**7), ("2M", 2**21),
            ("1.5k", 1536), (" 7 b ", 7), ("10mib", 10 * 2**20), ("0", 0),
        ],
    )  # fmt: skip
    def test_sizes(self, text: str, value: int) -> None:
        assert parse_size("max_body", text) == value

    @pytest.mark.parametrize("text", ["", "MiB", "-1", "1e6", "10 TiB", "1.5.5k", "ten", "\u0661\u0660", "9" * 16])
    def test_what_is_no_size(self, text: str) -> None:
        with pytest.raises(ConfigError, match="must be a size such as 512KiB"):
            parse_size("max_body", text)

    @pytest.mark.parametrize(("text", "value"), [("7", 7), (" 7 ", 7), ("-7", -7), ("+7", 7), ("007", 7)])
    def test_counts(self, text: str, value: int) -> None:
        assert parse_count("concurrency", text) == value

    @pytest.mark.parametrize("text", ["", "1.0", "1e3", "1_000", "\u0667", "9" * 5000, "x"])
    def test_what_is_no_count(self, text: str) -> None:
        with pytest.raises(ConfigError, match="must be a whole number"):
            parse_count("concurrency", text)

    @pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), (" 2 ", 2), ("1e1", 10), ("-1", -1), ("5s", 5)])
    def test_seconds(self, text: str, value: float) -> None:
        assert parse_duration("deadline", text) == value

    @pytest.mark.parametrize("text", ["", "nan", "inf", "1e999", "1,5", "5x"])
    def test_what_is_no_duration(self, text: str) -> None:
        with pytest.raises(ConfigError, match="must be a duration such as 500ms, 30s, 5m or 1h"):
            parse_duration("deadline", text)

    @given(st.text(max_size=30))
    @example("0\x1f")
    def test_nothing_but_a_config_error_comes_of_wild_text(self, text: str) -> None:
        for read in (parse_size, parse_count, parse_duration, parse_header):
            try:
                read("max_body", text)
            except ConfigError:
                continue


class TestHeaders:
    @pytest.mark.parametrize(
        ("line", "pair"),
        [
            ("X-One: 1", ("X-One", "1")),
            ("X-One:1:2 ", ("X-One", "1:2")),
            ("X-One:", ("X-One", "")),
            (" X-One : \t1", ("X-One", "1")),
            ("Accept: text/html, */*", ("Accept", "text/html, */*")),
            ("X: caf\u00e9", ("X", "caf\u00e9")),
        ],
    )
    def test_a_line_is_read(self, line: str, pair: tuple[str, str]) -> None:
        assert parse_header("headers", line) == pair

    def test_without_a_colon_the_line_is_not_repeated(self) -> None:
        with pytest.raises(ConfigError, match="there is no colon") as caught:
            parse_header("headers", "Authorization s3cret")

        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize("name", ["", "A B", "A\n", "\u00e9", "A:", "A(", "a\x00"])
    def test_what_is_no_name_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match="is not a header name"):
            check_header(name, "x")

    @pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Upgrade", "TE"])
    def test_what_frames_a_message_is_not_to_be_set(self, name: str) -> None:
        with pytest.raises(ConfigError, match="is set by Trawl itself"):
            check_header(name, "x")

    @pytest.mark.parametrize("value", ["s3cret\n", "s3cret\r\nX: y", "s3cret\x00", "s3cret\x7f", "s3cret\u20ac"])
    def test_a_value_that_cannot_be_sent_is_refused_unseen(self, value: str) -> None:
        with pytest.raises(ConfigError, match="cannot be sent") as caught:
            check_header("X", value)

        assert "s3cret" not in str(caught.value)

    def test_an_environment_variable_needs_a_name(self) -> None:
        with pytest.raises(ConfigError, match="names no environment variable"):
            operator_value("X", "env:")


class TestEnvironment:
    def test_a_variable_is_looked_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAWL_X", "value")

        assert resolve_header("X", EnvReference("TRAWL_X")) == "value"
        assert resolve_header("X", "plain") == "plain"

    def test_text_that_looks_like_a_reference_is_sent_as_it_stands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAWL_X", "s3cret")

        assert resolve_header("X", "env:TRAWL_X") == "env:TRAWL_X"
        assert resolve_header("X", "basic-env:TRAWL_X") == "basic-env:TRAWL_X"

    def test_a_missing_one_is_an_error_that_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TRAWL_X", raising=False)

        with pytest.raises(ConfigError, match="the header X needs the environment variable TRAWL_X, which is not set"):
            check_environment([("A", "plain"), ("X", EnvReference("TRAWL_X"))])

    def test_one_that_cannot_be_sent_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAWL_X", "s3cret\n")

        with pytest.raises(ConfigError, match="TRAWL_X has a character") as caught:
            resolve_header("X", EnvReference("TRAWL_X"))
        assert "s3cret" not in str(caught.value)


class TestBasicEnv:
    def test_is_sent_as_basic_authentication(self, monkeypatch):
        monkeypatch.setenv("TRAWL_TEST_LOGIN", "Aladdin:open sesame")  # RFC 7617, section 2
        assert (
            resolve_header("Authorization", EnvReference("TRAWL_TEST_LOGIN", basic=True))
            == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        )

    @pytest.mark.parametrize("login", [":", "user:", ":password", "a:b:c", "ü:ß"])
    def test_takes_whatever_has_a_colon(self, monkeypatch, login):
        monkeypatch.setenv("TRAWL_TEST_LOGIN", login)
        assert resolve_header("Authorization", EnvReference("TRAWL_TEST_LOGIN", basic=True)).startswith("Basic ")

    @pytest.mark.parametrize("login", ["", "s3cret", "user:s3cret\n", "user\x7f:s3cret"])
    def test_refuses_what_is_no_login_without_showing_it(self, monkeypatch, login):
        monkeypatch.setenv("TRAWL_TEST_LOGIN", login)
        with pytest.raises(ConfigError, match="TRAWL_TEST_LOGIN") as raised:
            resolve_header("Authorization", EnvReference("TRAWL_TEST_LOGIN", basic=True))
        assert "s3cret" not in str(raised.value)

    def test_is_secret_in_any_header_and_no_secret_itself(self):
        assert FetchConfig().is_secret("X-Login", EnvReference("NAME", basic=True))
        assert not FetchConfig().is_literal_secret("Authorization", EnvReference("NAME", basic=True))


def test_a_secret_that_is_not_stored_any_more_is_never_sent():
    with pytest.raises(ConfigError, match="is not stored any more"):
        resolve_header("Authorization", None)
