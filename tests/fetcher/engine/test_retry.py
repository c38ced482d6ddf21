"""What is retried, after which wait, and when it is over."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.retry import Failure, RetryPolicy, Wait, parse_retry_after

NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


def longest(low: float, high: float) -> float:
    return high


def decide(
    failure: Failure,
    *,
    method: str = "GET",
    opted_in: bool = False,
    attempt: int = 1,
    since: float = 0.0,
    **options: float,
) -> Wait | None:
    policy = RetryPolicy(FetchConfig(**options), uniform=longest)  # type: ignore[arg-type]
    return policy.decide(failure, method=method, opted_in=opted_in, attempt=attempt, since_first=since)


def status(code: int, retry_after: float | None = None) -> Failure:
    return Failure(ErrorKind.HTTP_STATUS, http_status=code, retry_after=retry_after)


class TestWorthRetrying:
    @pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
    def test_statuses_that_may_pass(self, code: int) -> None:
        assert decide(status(code)) == Wait(0.5, "backoff")

    @pytest.mark.parametrize("code", [304, 400, 401, 403, 404, 405, 409, 410, 451, 499, 501, 505, 511, 599])
    def test_statuses_that_will_not(self, code: int) -> None:
        assert decide(status(code)) is None

    @pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind is not ErrorKind.HTTP_STATUS])
    def test_of_other_kinds_the_error_itself_knows(self, kind: ErrorKind) -> None:
        assert decide(Failure(kind, retryable=True)) is not None
        assert decide(Failure(kind, retryable=False)) is None

    def test_the_status_of_an_answer_that_broke_off_says_nothing(self) -> None:
        assert decide(Failure(ErrorKind.PROTOCOL, retryable=True, http_status=200)) is not None
        assert decide(Failure(ErrorKind.TOO_LARGE, retryable=False, http_status=503)) is None


class TestMethods:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
    def test_safe_methods_are_retried(self, method: str) -> None:
        assert decide(status(503), method=method) is not None

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE", "get"])
    def test_others_only_with_the_targets_consent(self, method: str) -> None:
        assert decide(status(503), method=method) is None
        assert decide(status(503), method=method, opted_in=True) is not None


class TestWait:
    @pytest.mark.parametrize(("attempt", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (8, 60.0), (9, 60.0), (999, 60.0)])
    def test_the_bound_doubles_up_to_the_longest(self, attempt: int, bound: float) -> None:
        assert decide(status(503), attempt=attempt, max_attempts=1_000) == Wait(bound, "backoff")

    def test_full_jitter_draws_between_zero_and_the_bound(self) -> None:
        drawn: list[tuple[float, float]] = []

        def uniform(low: float, high: float) -> float:
            drawn.append((low, high))
            return high / 3

        policy = RetryPolicy(FetchConfig(backoff_base=3), uniform=uniform)
        wait = policy.decide(status(500), method="GET", opted_in=False, attempt=2, since_first=0)

        assert (wait, drawn) == (Wait(2.0, "backoff"), [(0, 6.0)])

    def test_the_wait_differs_from_one_target_to_the_next(self) -> None:
        policy = RetryPolicy(FetchConfig())
        waits = {policy.decide(status(500), method="GET", opted_in=False, attempt=1, since_first=0) for _ in range(50)}

        assert len(waits) > 1

    @pytest.mark.parametrize("told", [1.0, 7.0, 300.0])
    def test_a_longer_retry_after_goes_before_the_backoff(self, told: float) -> None:
        assert decide(status(429, told)) == Wait(told, "retry_after")

    @pytest.mark.parametrize(("attempt", "backoff"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0)])
    @pytest.mark.parametrize("told", [0.0, 0.01])
    def test_a_shorter_retry_after_never_replaces_the_backoff(self, told: float, attempt: int, backoff: float) -> None:
        assert decide(status(503, told), attempt=attempt, max_attempts=9) == Wait(backoff, "backoff")

    def test_without_base_there_is_no_wait(self) -> None:
        assert decide(status(503), backoff_base=0) == Wait(0, "backoff")


class TestEnd:
    @pytest.mark.parametrize(("attempt", "again"), [(1, True), (3, True), (4, False), (5, False)])
    def test_attempts_count_the_first(self, attempt: int, again: bool) -> None:
        assert (decide(status(503), attempt=attempt, max_attempts=4) is not None) == again

    def test_one_attempt_means_no_retries(self) -> None:
        assert decide(status(503), max_attempts=1) is None

    @pytest.mark.parametrize(
        ("since", "told", "again"), [(0, 9, True), (5, 4, True), (5, 5, False), (9, 2, False), (11, 0, False)]
    )
    def test_no_wait_ends_after_the_total_deadline(self, since: float, told: float, again: bool) -> None:
        assert (decide(status(503, told), since=since, total_deadline=10) is not None) == again

    def test_one_decision_does_not_colour_the_next(self) -> None:
        policy = RetryPolicy(FetchConfig(max_attempts=2, total_deadline=10), uniform=longest)
        for _ in range(3):
            assert policy.decide(status(503, 6), method="GET", opted_in=False, attempt=1, since_first=1) is not None
            assert policy.decide(status(503, 6), method="GET", opted_in=False, attempt=2, since_first=1) is None
            assert policy.decide(status(404), method="GET", opted_in=False, attempt=1, since_first=1) is None


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0),
            ("7", 7),
            (" 7\t", 7),
            ("007", 7),
            ("0" * 20 + "7", 7),
            ("0" * 20, 0),
            ("300", 300),
            ("301", 300),
            ("9" * 60_000, 300),
            # The three formats of an HTTP date: RFC 9110, section 5.6.7.
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
            ("Sun Nov  6 08:50:37 1994", 60),
            ("Sun, 06 Nov 1994 09:50:37 +0100", 60),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
        ],
    )
    def test_seconds_and_dates_within_bounds(self, value: str, seconds: float) -> None:
        assert parse_retry_after(value, now=NOW, longest=300) == seconds

    @pytest.mark.parametrize(
        "value",
        ["", " ", "-1", "+1", "1.5", "1e3", "nan", "inf", "-inf", "0x10", "1_000", "soon", "7 s", "7, 8",
         "\u0667", "\u00b2", "\uff17", "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
         "Sun, 06 Nov 1994 25:49:37 GMT", "1994-11-06T08:50:37Z", "GMT", "Sun, 06 Nov 0000 08:49:37 GMT",
         "Sun, 06 Nov 0094 08:50:37 GMT", "Sun Nov  6 08:50:37 0094"],
    )  # fmt: skip
    def test_nonsense_is_ignored(self, value: str) -> None:
        assert parse_retry_after(value, now=NOW, longest=300) is None

    @given(st.integers(-10_000, 10_000))
    def test_a_date_is_the_wait_until_then(self, offset: int) -> None:
        value = format_datetime(datetime.fromtimestamp(NOW + offset, UTC), usegmt=True)

        assert parse_retry_after(value, now=NOW, longest=5000) == min(max(offset, 0), 5000)

    @given(
        st.text()
        | st.text("0123456789 ,:+-GMTSunov", max_size=40)
        | st.from_regex(
            r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}:\d{1,3} ([A-Z]{3}|[+-]\d{1,12})"
        ),
        st.floats(0, 1e6),
    )
    def test_whatever_is_sent_the_wait_is_bounded(self, value: str, longest: float) -> None:
        seconds = parse_retry_after(value, now=NOW, longest=longest)

        assert seconds is None or 0 <= seconds <= longest
