"""Why results failed, as a person names it."""

from __future__ import annotations

import pytest

from fetcher.causes import any_of, parse_causes
from fetcher.engine.errors import ErrorKind
from fetcher.models import Result
from tests.rows import make_result, make_run

FAILURES = [("dns", None), ("timeout", None), ("timeout", 200), ("http_status", 404), ("http_status", 429),
            ("http_status", 499), ("http_status", 500), ("http_status", 503), ("http_status", 599)]  # fmt: skip


@pytest.fixture
def results(db):
    """One result that succeeded, and one for each of FAILURES."""
    run = make_run()
    make_result(run, "http://a.example/")
    for number, (kind, status) in enumerate(FAILURES):
        make_result(run, f"http://a.example/{number}", status="failed", error_kind=kind, http_status=status)


def matched(text: str) -> list[tuple]:
    found = Result.objects.filter(any_of(parse_causes(text))).order_by("id")
    return list(found.values_list("error_kind", "http_status"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns", FAILURES[:1]),
        ("timeout", FAILURES[1:3]),
        ("http_status", FAILURES[3:]),
        ("http_status:429", FAILURES[4:5]),
        ("http_status:4xx", FAILURES[3:6]),
        ("HTTP_STATUS:5XX", FAILURES[6:]),
        ("dns,http_status:503", [FAILURES[0], FAILURES[7]]),
        (" dns , dns,http_status:5xx , http_status:500 ", [FAILURES[0], *FAILURES[6:]]),
        ("tls", []),
    ],
)
def test_causes_match_the_results_that_failed_by_them(results, text, expected):
    assert matched(text) == expected


def test_no_cause_matches_every_failure(results):
    assert Result.objects.filter(any_of(())).count() == len(FAILURES)


@pytest.mark.parametrize("text", [*ErrorKind, "http_status:404", "http_status:4xx"])
def test_a_cause_is_written_as_it_is_read(text):
    assert [str(cause) for cause in parse_causes(text)] == [text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be one of invalid_url, blocked_address, dns, .*, internal, not ''"),
        ("dns,", "must be one of .*, not ''"),
        ("404", "must be one of .*, not '404'"),
        ("dns,slow", "must be one of .*, not 'slow'"),
        ("dns:1", "only http_status can be narrowed, as in http_status:429; write dns alone"),
        ("http_status:", "must name a failed answer, as in http_status:429 or http_status:5xx, not ''"),
        ("http_status:200", "must name a failed answer, .*, not '200'"),
        ("http_status:50x", "must name a failed answer, .*, not '50x'"),
        ("http_status:4040", "must name a failed answer, .*, not '4040'"),
        ("http_status:٤٠٤", "must name a failed answer, "),
    ],
)
def test_what_is_no_cause_says_what_would_be(text, message):
    with pytest.raises(ValueError, match=message):
        parse_causes(text)
